"""Wrappers for models that a user brings."""
