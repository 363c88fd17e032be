"""Convergence of methods on one event, and their agreement."""
