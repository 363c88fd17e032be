"""Explain machine learning on high-energy-physics events."""

__version__ = "0.1.0"
