"""Trained runs on any number of files: partitions, engines that work on them, results that add up."""

from hepxai.engine.apply import Applied, apply_run
from hepxai.engine.engines import ENGINES

__all__ = ["ENGINES", "Applied", "apply_run"]
