"""Soft decision trees: figures of their nodes and masks."""
