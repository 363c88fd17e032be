"""Events: the one data structure, frozen, columnar and jagged."""

from hepxai.events.events import Events
from hepxai.events.pairing import EventPairs, pair_events
from hepxai.events.schema import P4, SPLITS, Schema

__all__ = ["P4", "SPLITS", "EventPairs", "Events", "Schema", "pair_events"]
