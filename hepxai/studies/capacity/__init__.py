"""Capacity of a network: gap, score and spare neurons against its size."""
