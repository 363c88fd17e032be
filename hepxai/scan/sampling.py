"""Decisions by Optuna: the next point, pruning, Pareto fronts, importance of entries.

Each is a pure function of the results so far, in a study in memory: a resumed scan decides like an
uninterrupted one.
"""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.importance import FanovaImportanceEvaluator, get_param_importances
from optuna.pruners import MedianPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState, create_trial

from hepxai.core.estimate import Estimate
from hepxai.scan.objectives import Direction
from hepxai.scan.plan import Plan
from hepxai.scan.space import Point, ScanError

Result = tuple[Point, Sequence[float] | None]
"""A point and its objectives, None for a point in progress."""
STARTUP, WARMUP = 5, 5
"""Finished trials, and epochs, before anything is pruned."""
REPEATS, TREES = 10, 32
SEED_NAME = "seed"


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Optuna's log and its notes on experimental parts off the screen."""
    level = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ExperimentalWarning)
            yield
    finally:
        optuna.logging.set_verbosity(level)


def directions(ways: Iterable[Direction]) -> list[StudyDirection]:
    """Directions in Optuna's words."""
    return [StudyDirection.MAXIMIZE if way == "max" else StudyDirection.MINIMIZE for way in ways]


def next_point(plan: Plan, number: int, results: Sequence[Result]) -> Point:
    """Point of a number: of the grid, or a random new one; a ScanError if there is none left."""
    if plan.sampler == "grid":
        return next(itertools.islice(plan.space.grid(), number, None))
    taken = [point for point, _ in results]
    for attempt in range(100):
        point = plan.space.rounded(_draw(plan, results, (plan.sampler_seed, number, attempt)))
        if point not in taken:
            return point
    raise ScanError(f"no new point after {len(taken)}: the space is used up; --trials {len(taken)} is enough")


def _draw(plan: Plan, results: Sequence[Result], key: tuple[int, int, int]) -> Point:
    seed = int(np.random.default_rng(key).integers(2**31))
    use_tpe = plan.sampler == "tpe" and key[-1] <= 10  # it may insist on a point that is taken
    sampler: BaseSampler = TPESampler(seed=seed) if use_tpe else RandomSampler(seed=seed)
    with quiet():
        study = optuna.create_study(directions=directions(d for _, d in plan.objectives), sampler=sampler)
        study.add_trials([_trial(plan.space.distributions(), *result) for result in results])
        return study.ask(plan.space.distributions()).params


def _trial(
    space: Mapping[str, BaseDistribution], point: Point, values: Sequence[float] | None
) -> FrozenTrial:
    state = TrialState.RUNNING if values is None else TrialState.COMPLETE
    return create_trial(state=state, values=values, params=dict(point), distributions=dict(space))


def below_median(running: Mapping[int, float], finished: Sequence[Mapping[int, float]]) -> bool:
    """True if the best value so far is below the median of finished trainings at the same epoch.

    Parameters
    ----------
    running, finished : mapping
        ``epoch → value``; higher is better. False as long as fewer than ``STARTUP`` are finished or
        ``WARMUP`` epochs done.
    """
    with quiet():
        study = optuna.create_study(direction="maximize")
        for values in finished:
            study.add_trial(create_trial(value=0.0, intermediate_values=dict(values)))
        trial = create_trial(state=TrialState.RUNNING, intermediate_values=dict(running))
        return MedianPruner(STARTUP, WARMUP).prune(study, trial)


def pareto_front(values: Sequence[Sequence[float]], ways: Sequence[Direction]) -> list[int]:
    """Rows that no other row beats in all objectives; rows with a NaN are never among them."""
    rows = [i for i, v in enumerate(values) if np.isfinite(v).all()]
    if not rows:
        return []
    with quiet():
        study = optuna.create_study(directions=directions(ways))
        study.add_trials([create_trial(values=values[i]) for i in rows])
        best = study.best_trials if len(ways) > 1 else [study.best_trial]
    return sorted(rows[t.number] for t in best)


def importances(
    points: Sequence[Point],
    seeds: Sequence[int],
    values: Sequence[float],
    space: Mapping[str, BaseDistribution],
) -> dict[str, Estimate]:
    """Share of the variance of a figure of merit that each entry explains alone: fANOVA.

    Random forests, Hutter et al., ICML 2014. The training seed is one of the entries: an entry that explains
    less than the seed has no visible effect. Errors are from bootstrap samples of the trials.

    Parameters
    ----------
    points, seeds, values : sequence
        Of each trial.
    space : mapping
        Distribution of every entry, with numbers in their order.

    Returns
    -------
    dict
        Empty with fewer than four trials, one entry, or a constant figure of merit.
    """
    full = dict(space)
    if len(set(seeds)) > 1:
        full[SEED_NAME] = CategoricalDistribution(sorted(set(seeds)))
    if len(values) < 4 or len(full) < 2 or np.ptp(values) == 0:
        return {}
    rows = [{SEED_NAME: i, **p} for p, i in zip(points, seeds, strict=True)]
    rows = [{k: v for k, v in row.items() if k in full} for row in rows]
    rng = np.random.default_rng(0)
    whole = np.arange(len(rows))
    draws = [whole, *(rng.choice(whole, len(whole)) for _ in range(REPEATS))]
    first, *repeats = (_importances([rows[i] for i in d], [values[i] for i in d], full) for d in draws)
    errors = {k: np.asarray(np.std([r[k] for r in repeats], ddof=1)) for k in full}
    return {k: Estimate(np.asarray(first[k]), errors[k], float(len(values))) for k in full}


def _importances(
    rows: Sequence[Point], values: Sequence[float], space: Mapping[str, BaseDistribution]
) -> dict[str, float]:
    if np.ptp(values) == 0:
        return dict.fromkeys(space, 0.0)
    with quiet():
        study = optuna.create_study()
        study.add_trials([_trial(space, row, [v]) for row, v in zip(rows, values, strict=True)])
        evaluator = FanovaImportanceEvaluator(n_trees=TREES, seed=0)
        shares = get_param_importances(study, evaluator=evaluator, normalize=False)
    return {k: float(shares.get(k, 0.0)) for k in space}
