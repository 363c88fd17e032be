"""The report of a run: one page that opens offline, figures, numbers and ROOT histograms."""

from hepxai.report.content import ReportContent
from hepxai.report.write import write_report

__all__ = ["ReportContent", "write_report"]
