"""Wrappers for models of users."""
