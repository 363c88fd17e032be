"""Tools without physics and without torch: arrays, estimates, files, progress, workers, formatting."""
