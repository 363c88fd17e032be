"""Dependence of a score on a variable, and sculpting of its spectrum."""
