"""Influence of single training events on a score: TracIn."""
