"""The report of a run: one page that opens offline, figures, numbers and ROOT histograms."""

from hepxai.report.view import RunView
from hepxai.report.write import write_report

__all__ = ["RunView", "write_report"]
