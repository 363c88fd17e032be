"""Events: the one data structure, frozen, columnar and jagged."""

from hepxai.events.events import P4, SPLITS, Events, Schema

__all__ = ["P4", "SPLITS", "Events", "Schema"]
