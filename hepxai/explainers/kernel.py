"""KernelSHAP of shap: number of runs, and values with errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.explainers.libraries import RUNS, Array, isolated_rng, mean_and_error


def kernel_runs(samples: int, players: int, noun: str) -> int:
    """Number of runs: 1 if all sets of players fit into the samples; else a few, for an error.

    Raises
    ------
    ValueError
        If the samples are too few for the regression; ``noun`` names the players.
    """
    if players < 60 and 2**players - 2 <= samples:
        return 1
    if samples < 16 * players:
        raise ValueError(f"samples={samples}; at least {16 * players} are needed for {players} {noun}")
    return RUNS


def kernel_values(engine: Any, x: Any, seeds: IntArray, samples: int) -> tuple[Array, Array]:
    """Shapley values ``[P]`` and their errors by shap's KernelExplainer, from a run for each of the seeds."""
    with isolated_rng():
        return mean_and_error([_run(engine, x, int(seed), samples // len(seeds)) for seed in seeds])


def _run(engine: Any, x: Any, seed: int, samples: int) -> Array:
    np.random.seed(seed)  # noqa: NPY002 - what shap draws from
    # Its default, ten players at most, would give 0 to all others.
    values = engine.shap_values(x, nsamples=samples, l1_reg=False, silent=True)
    return np.asarray(values, dtype=np.float64).reshape(-1)
