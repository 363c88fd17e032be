"""Run all benchmarks, or those named on the command line."""

import importlib
import os
import sys

# Before torch and numpy start their pools: one thread, or the ratios mean nothing.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = "1"

NAMES = (
    "reading",
    "training",
    "attention",
    "edge_ig",
    "shapley",
    "conductance",
    "tracin",
    "permutation",
    "tree_shap",
    "feature_ig",
    "images",
    "cam",
    "perturbation",
)

for name in sys.argv[1:] or NAMES:
    if name not in NAMES:
        sys.exit(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    importlib.import_module(f"benchmarks.{name}").main()
