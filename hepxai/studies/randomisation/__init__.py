"""Cascading randomisation: maps of a model that forgets its layers one by one."""
