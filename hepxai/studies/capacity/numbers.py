"""Capacity of a network: neurons that carry its decision, and the narrowest sufficient width."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.estimate import Array, Estimate, ratio_mean
from hepxai.metrics.averages import spread_mean

SPARE = 0.05
"""Share of a layer's conductance that the neurons to be spared may carry together."""
SIGMA = 2.0


@dataclass(frozen=True)
class Activity:
    """Neurons of a layer that carry its conductance.

    A mean conductance of zero does not make a neuron idle: it may push some events up and others down. The
    measure is therefore the size of the conductance, as a share of the layer's:
    ``S_j = Σ_e w_e |C_ej| / Σ_e w_e Σ_k |C_ek|``. It is never negative, so "compatible with zero" needs a
    scale. **Idle** are the weakest neurons, as many as carry at most a share ``spare`` together, with
    ``SIGMA`` standard errors of margin, in all events and in each class. Few events make more neurons count
    as active, never fewer. The bound applies to all idle neurons together: it does not grow with the layer.

    Attributes
    ----------
    layer : str
    share : Estimate, shape [H]
        S_j in all events.
    active : ndarray of bool, shape [H]
        At least one.
    fewest : int
        Active ones if the errors were in favour of sparing: the truth is between this and ``active.sum()``.
    carried : Estimate
        Share that the idle ones have together in all events.
    undecided : int
        Neurons whose signed mean is compatible with 0 within ``SIGMA`` errors, in all events and in every
        class: means alone would call them idle.
    """

    layer: str
    share: Estimate
    active: NDArray[np.bool_]
    fewest: int
    carried: Estimate
    undecided: int


def active_neurons(attribution: Attribution, *, spare: float = SPARE) -> tuple[Activity, ...]:
    """Neurons that carry the decision of a network, layer by layer.

    Parameters
    ----------
    attribution : Attribution
        Axes ("event", "neuron"), of conductance.
    spare : float
        Share of a layer's conductance that idle neurons may carry together.

    Raises
    ------
    ValueError
        Other axes, no events, or a share that is not between 0 and 1.
    """
    if attribution.axes != ("event", "neuron"):
        raise ValueError(f"axes are {', '.join(attribution.axes)}; conductance has event, neuron")
    if not 0 < spare < 1:
        raise ValueError(f"spare={spare}; a share above 0 and below 1 is needed")
    if not len(attribution.events):
        raise ValueError("there are no events to see neurons work in")
    layers = np.array([label.rpartition(":")[0] for label in attribution.labels["neuron"]])
    values = np.asarray(attribution.values, dtype=np.float64)
    groups = _populations(attribution)
    return tuple(
        _activity(name, values[:, layers == name], groups, spare) for name in dict.fromkeys(layers.tolist())
    )


Population = tuple[NDArray[np.bool_], Array]


def _populations(attribution: Attribution) -> list[Population]:
    """All events, and each class that has some; with their weights."""
    label, weight = attribution.events.label, attribution.events.weight
    masks = [np.ones(len(label), dtype=bool), *(label == c for c in np.unique(label))]
    return [(m, weight[m]) for m in masks if abs(weight[m].sum()) > 1e-9 * np.abs(weight[m]).sum()]


def _activity(name: str, values: Array, groups: Sequence[Population], spare: float) -> Activity:
    size = np.abs(values)
    whole = size.sum(axis=1)
    shares = [ratio_mean(size[m], whole[m], w) for m, w in groups]
    order = np.argsort(np.max([np.nan_to_num(s.value) for s in shares], axis=0), kind="stable")
    sums = np.cumsum(size[:, order], axis=1)
    joint = [ratio_mean(sums[m], whole[m], w) for m, w in groups]
    idle, most = (_spared(joint, spare, sigma) for sigma in (SIGMA, -SIGMA))
    active = np.ones(len(order), dtype=bool)
    active[order[:idle]] = False
    nothing = Estimate(np.asarray(0.0), np.asarray(0.0), joint[0].n_eff)
    carried = _at(joint[0], idle - 1) if idle else nothing
    return Activity(name, shares[0], active, len(order) - most, carried, _undecided(values, groups))


def _spared(joint: Sequence[Estimate], spare: float, sigma: float) -> int:
    """Number of the weakest neurons that may go; a layer keeps one. NaN where a layer is dead."""
    limits = [np.nan_to_num(j.value) + sigma * np.nan_to_num(j.error) for j in joint]
    fits = np.all(np.array(limits) <= spare, axis=0)[:-1]
    return int(np.logical_and.accumulate(fits).sum())


def _undecided(values: Array, groups: Sequence[Population]) -> int:
    means = [ratio_mean(values[m], np.ones(int(m.sum())), w) for m, w in groups]
    return int(np.all([np.abs(e.value) <= SIGMA * np.nan_to_num(e.error) for e in means], axis=0).sum())


def _at(e: Estimate, place: int) -> Estimate:
    return Estimate(np.asarray(e.value[place]), np.asarray(e.error[place]), e.n_eff)


# --- over a range of widths ------------------------------------------------------------------------


@dataclass(frozen=True)
class Training:
    """One training, and the activity of its neurons.

    Attributes
    ----------
    widths : tuple of int
        Of the hidden layers.
    seed : int
    figures : mapping
        ``split → figure of merit → Estimate``; statistical errors.
    active, fewest, undecided : tuple of int
        Of each layer; see `Activity`.
    """

    widths: tuple[int, ...]
    seed: int
    figures: Mapping[str, Mapping[str, Estimate]]
    active: tuple[int, ...]
    fewest: tuple[int, ...]
    undecided: tuple[int, ...]


@dataclass(frozen=True)
class WidthPoint:
    """Trainings at one width, before and after the layers were shrunk to their active neurons.

    Attributes
    ----------
    width : int
        Of every layer.
    before, after : tuple of Training
        One for each seed; none after where all neurons are active.
    """

    width: int
    before: tuple[Training, ...]
    after: tuple[Training, ...]

    @property
    def shrunk(self) -> tuple[int, ...]:
        """Widths of the layers after shrinking: for each the largest number of active neurons of any seed."""
        return tuple(np.max([t.active for t in self.before], axis=0).tolist())

    def mean(self, split: str, name: str = "balanced_accuracy", *, after: bool = False) -> Estimate:
        """Mean over the seeds; its error is that of the scatter of seeds, of one seed the statistical one."""
        trained = self.after if after else self.before
        figures = [t.figures[split][name] for t in trained]
        return figures[0] if len(figures) == 1 else spread_mean(np.array([float(e.value) for e in figures]))

    def statistical(self, split: str, name: str = "balanced_accuracy") -> float:
        """Error of one training before shrinking from the finite number of events, which seeds share."""
        return float(np.mean([float(t.figures[split][name].error) for t in self.before]))


@dataclass(frozen=True)
class WidthStudy:
    """Trainings over a range of widths.

    Attributes
    ----------
    points : tuple of WidthPoint
        Narrow ones first.
    spare : float
        See `active_neurons`.
    """

    points: tuple[WidthPoint, ...]
    spare: float = SPARE

    @property
    def best(self) -> WidthPoint:
        """Point of the highest validation accuracy."""
        return max(self.points, key=lambda p: float(p.mean("valid").value))

    @property
    def chosen(self) -> WidthPoint:
        """Narrowest point within one standard error of the best one, even with one less over its own seeds.

        The rule of Breiman et al. (Classification and Regression Trees, 1984, sec. 3.4.3): the error of the
        best one is that of seeds and events together. The second condition keeps out widths whose
        trainings succeed by luck.
        """
        return next(p for p in self.points if _as_good(p.mean("valid"), self.best))

    @property
    def widths(self) -> tuple[int, ...]:
        """Recommended widths of the layers: the shrunk ones where retraining lost nothing beyond errors."""
        chosen = self.chosen
        if chosen.after and _as_good(chosen.mean("valid", after=True), chosen):
            return chosen.shrunk
        return chosen.before[0].widths

    def reasons(self) -> list[str]:
        """Reasons for these widths, as sentences with numbers."""
        return list(_reasons(self))


def _as_good(one: Estimate, best: WidthPoint) -> bool:
    best_accuracy = best.mean("valid")
    error, best_error = np.nan_to_num([float(one.error), float(best_accuracy.error)])
    return bool(
        float(one.value) - error
        >= float(best_accuracy.value) - np.hypot(best_error, best.statistical("valid"))
    )


def _reasons(study: WidthStudy) -> Iterator[str]:
    chosen, best = study.chosen, study.best
    yield _why(study, chosen, best)
    yield (
        f"There the training accuracy is {chosen.mean('train'):.4f}: "
        f"{float(chosen.mean('train').value - chosen.mean('valid').value):+.4f} beyond the validation."
    )
    counts = ", ".join(f"{a} of {w}" for a, w in zip(chosen.shrunk, chosen.before[0].widths, strict=True))
    yield (
        f"Active neurons of its layers: {counts}; the others carry together at most "
        f"{study.spare:.0%} of a layer's conductance."
    )
    if chosen.after:
        verdict = "no loss beyond the errors" if study.widths == chosen.shrunk else "a loss, so they are kept"
        yield f"Retrained without the others: {chosen.mean('valid', after=True):.4f}, {verdict}."
    if chosen is study.points[-1] and len(study.points) > 1:
        yield "It is the widest one that was tried: a wider one may be better still."


def _why(study: WidthStudy, chosen: WidthPoint, best: WidthPoint) -> str:
    tried = ", ".join(str(p.width) for p in study.points)
    accuracy = f"{chosen.mean('valid'):.4f}"
    if chosen is best:
        return (
            f"Width {chosen.width} of {tried} has the best validation accuracy ({accuracy}), and "
            "no narrower one is as good."
        )
    return (
        f"Width {chosen.width} is the narrowest of {tried} with a validation accuracy ({accuracy}) "
        f"as good as that of the best, width {best.width} ({best.mean('valid'):.4f}, and "
        f"± {best.statistical('valid'):.4f} from the number of events)."
    )
