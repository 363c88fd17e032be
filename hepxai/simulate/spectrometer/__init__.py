"""Muon patterns: a toy of a muon spectrometer's barrel, with strips in eta. Needs numpy only."""

from hepxai.simulate.spectrometer.config import SpectrometerConfig, load_spectrometer
from hepxai.simulate.spectrometer.run import simulate_patterns

__all__ = ["SpectrometerConfig", "load_spectrometer", "simulate_patterns"]
