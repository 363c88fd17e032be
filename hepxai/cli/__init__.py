"""Command line: from ROOT ntuples to an explained population of events."""

from hepxai.cli import run, apply, browser, compare, with_data, concepts, weaver, scan, data, simulate  # noqa: F401, I001  # `hepxai --help` lists them in this order
from hepxai.cli.program import app

__all__ = ["app"]
