"""Scans: many runs over values of card entries, resumable, judged by accuracy or by explanations."""

try:
    import optuna as _optuna  # noqa: F401
except ImportError as _missing:
    raise ImportError('scans need optuna: pip install "hepxai[scan]"') from _missing

from hepxai.scan.advice import advice
from hepxai.scan.objectives import METRICS, TrialContext, metric
from hepxai.scan.page import write_scan
from hepxai.scan.plan import Plan
from hepxai.scan.scan import Scan
from hepxai.scan.space import ScanError
from hepxai.scan.table import Table

__all__ = ["METRICS", "Plan", "Scan", "ScanError", "Table", "TrialContext", "advice", "metric", "write_scan"]
