"""Muon patterns: a toy of a muon spectrometer's barrel, with strips in eta. Needs numpy only."""
