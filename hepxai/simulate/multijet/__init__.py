"""Multijet events: all-hadronic top pairs and QCD, in slices of pT-hat, with jet substructure."""

from hepxai.simulate.multijet.config import MultijetConfig, load_multijet
from hepxai.simulate.multijet.run import simulate_multijet

__all__ = ["MultijetConfig", "load_multijet", "simulate_multijet"]
