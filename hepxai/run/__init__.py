"""One run: a folder with a trained model, its figures of merit and its explanations, resumable."""

from hepxai.run.ensemble import EnsembleRun
from hepxai.run.run import Run

__all__ = ["EnsembleRun", "Run"]
