"""Speed against named peers, in one run, on one thread. ``python -m benchmarks [name …]``."""
