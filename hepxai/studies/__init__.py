"""Studies: one folder per concept, its numbers and its figures side by side."""
