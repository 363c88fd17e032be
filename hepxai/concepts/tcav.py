"""Testing with concept activation vectors: share of events whose target rises along a direction."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from hepxai.concepts.directions import Directions, directions_of_examples, given_directions
from hepxai.concepts.layers import chunks, layer_of
from hepxai.concepts.populations import populations
from hepxai.concepts.result import Concepts
from hepxai.concepts.sensitivity import Comparison, TcavScores, holm, two_sided
from hepxai.concepts.slopes import Slopes, slopes_of
from hepxai.core.console import track
from hepxai.core.estimate import Estimate, share, weighted_mean
from hepxai.events import Events
from hepxai.explainers.base import CheckWarning
from hepxai.explainers.guards import check_scores
from hepxai.models.protocols import HasFeatureMaps, HasLayerCut

Array = NDArray[np.float64]
RANDOM, RANDOM_STEPS = 10_000, 99
"""Random directions: a gradient makes them a product of matrices, a step a pass of the network each."""
LEVEL = 0.05
BLOCK = 2**22
"""Derivatives that are held at a time."""


class Column(NamedTuple):
    """Values of all concepts for one class; see `Comparison`."""

    estimate: Estimate
    concept_error: Array
    band: Array
    p_value: Array


def tcav(
    model: HasFeatureMaps,
    concepts: Concepts | ArrayLike | Mapping[str, Events],
    events: Events,
    *,
    counterexamples: Events | None = None,
    layer: str | None = None,
    classes: Sequence[str] | None = None,
    step: float | None = None,
    random: int | None = None,
    seed: int = 0,
    progress: bool = False,
) -> TcavScores:
    """Fraction of the events of a class whose target rises along a concept, against random directions.

    ``TCAV_{k,c} = Σ_{e in c} w_e [D_k F_c(e) > 0] / Σ_{e in c} w_e`` [Kim et al., arXiv:1711.11279], with the
    derivative ``D_k F = Σ_p P_k · ∂F/∂A(p)`` along the direction P_k at all positions p of the layer, and the
    target F_c of the class: its logit less the mean of all others; see
    `hepxai.concepts.populations.populations`. Nothing is stored between calls.

    Random directions of the same kind have the same events and targets: for given directions, each with its
    components permuted over the channels, so that it is as sparse; else classifiers of random splits of
    examples and counter-examples. The p-values are two-sided: a score far below those of random directions
    says that the concept speaks against the class. The mean derivative is compared as well; it can tell where
    the fraction is 0 or 1 for most directions.

    Parameters
    ----------
    model : HasFeatureMaps
    concepts : Concepts, array or mapping of str to Events
        Concepts of this model (`hepxai.concepts.ice.ice`); directions ``[K, c]``, which are scaled to length
        1; or examples of each concept, see `hepxai.concepts.vectors.concept_vector`.
    events : Events
        Events whose targets are explained.
    counterexamples : Events, optional
        Events without the concepts; needed with examples.
    layer : str, optional
        By default that of ``concepts``, or the last one.
    classes : sequence of str, optional
        All by default.
    step : float, optional
        Take ``[F(A + step P) - F(A)]/step`` in place of the derivative, which is exact.
    random : int, optional
        Number of random directions; 10,000 by default, 99 with ``step``.
    seed : int
        Of the random directions.
    progress : bool
        Show a progress bar.

    Returns
    -------
    TcavScores

    Raises
    ------
    CannotExplainError
        The model has no maps.
    KeyError, ValueError
        A class that is not there, directions of another width, examples without counter-examples, concepts of
        another model, or another invalid setting.

    Warns
    -----
    CheckWarning
        If a concept is not linearly there, a target does not depend on the layer, or no corrected p-value can
        reach 5 %.
    """
    layer = _layer(model, concepts, layer, step)
    random = (RANDOM if step is None else RANDOM_STEPS) if random is None else random
    if random < 1 or (step is not None and not 0 < step < np.inf):
        raise ValueError(f"random={random}, step={step}: both must be positive")
    check_scores(model, events)
    asked = populations(model, events, classes)
    directions = _directions(model, concepts, events, counterexamples, layer, random, seed)
    _warn_of_few(random, len(directions.names) * len(asked))
    columns = []
    with track("TCAV", len(asked), show=progress) as advance:
        for p in asked:
            slopes = slopes_of(model, events[p.where], p, layer, step)
            columns.append(_columns(slopes, directions, events.weight[p.where], p.name))
            advance(1)
    score, derivative = (_comparison(part) for part in zip(*columns, strict=True))
    return TcavScores(
        layer=layer,
        concepts=directions.names,
        classes=tuple(p.name for p in asked),
        targets=tuple(p.target for p in asked),
        score=score,
        derivative=derivative,
        accuracy=directions.accuracy,
        settings={"layer": layer, "step": step, "random": random, "seed": seed},
    )


def _layer(model: Any, concepts: object, layer: str | None, step: float | None) -> str:
    """Layer of the directions."""
    if isinstance(concepts, Concepts):
        if concepts.model is not model:
            raise ValueError(
                "these are concepts of another model: call ice on this one, or give concepts.directions and "
                "layer="
            )
        if layer not in (None, concepts.layer):
            raise ValueError(
                f"layer={layer!r}, and the concepts are of layer {concepts.layer!r}; leave it out"
            )
        layer = concepts.layer
    return layer_of(model, layer, needs=HasFeatureMaps if step is None else HasLayerCut)


def _directions(
    model: HasFeatureMaps,
    concepts: Concepts | ArrayLike | Mapping[str, Events],
    events: Events,
    counterexamples: Events | None,
    layer: str,
    random: int,
    seed: int,
) -> Directions:
    if isinstance(concepts, Mapping):
        return directions_of_examples(model, concepts, counterexamples, layer, random, seed)
    if counterexamples is not None:
        raise ValueError("counterexamples= belong to examples of concepts, {'name': events}; leave them out")
    channels = next(chunks(model, events[:1], layer)).maps.shape[1]
    if isinstance(concepts, Concepts):
        return given_directions(concepts.directions, concepts.names, channels, random, seed)
    return given_directions(concepts, None, channels, random, seed)


def _warn_of_few(random: int, tests: int) -> None:
    if (least := 2 * tests / (random + 1)) > LEVEL:
        warnings.warn(
            f"with {random} random directions no corrected p-value of {tests} scores is below "
            f"{min(least, 1):.2g}; give random={int(2 * tests / LEVEL)} or more, or fewer concepts",
            CheckWarning,
            stacklevel=3,
        )


def _columns(slopes: Slopes, directions: Directions, weight: Array, name: str) -> tuple[Column, Column]:
    """Fraction of positive derivatives, and mean derivative, of all concepts for one class."""
    observed = slopes(directions.values)
    estimates = (share(observed > 0, weight, f"TCAV score of {name}"), Estimate.of(observed, weight))
    null, resampled = (_means(slopes, d, weight, name) for d in (directions.random, directions.resampled))
    one, other = (
        Column(
            estimate,
            spread.std(axis=1, ddof=1) if spread.size else np.zeros_like(estimate.value),
            np.quantile(values.T, (0.025, 0.975), axis=0) + np.zeros_like(estimate.value),
            two_sided(estimate.value, values.T),
        )
        for estimate, values, spread in zip(estimates, null, resampled, strict=True)
    )
    return one, other


def _means(slopes: Slopes, directions: Array, weight: Array, name: str) -> Array:
    """Fraction and mean derivative ``[2, K, N]`` of directions ``[K, N, c]``, a few at a time."""
    sets, number, channels = directions.shape
    flat, each = directions.reshape(sets * number, channels), max(BLOCK // len(weight), 1)
    means = np.zeros((2, len(flat)))
    for start in range(0, len(flat), each):
        block = slopes(flat[start : start + each])
        for row, values in enumerate(((block > 0).astype(np.float64), block)):
            means[row, start : start + each] = weighted_mean(
                values, weight, f"the events of {name}", "leave this class out by classes=[…]"
            )
    return means.reshape(2, sets, number)


def _comparison(columns: Sequence[Column]) -> Comparison:
    """Columns of all classes side by side."""
    estimates = [c.estimate for c in columns]
    names = ("value", "error", "low", "high")
    value, error, low, high = (np.stack([getattr(e, n) for e in estimates], axis=1) for n in names)
    p_value = np.stack([c.p_value for c in columns], axis=1)
    return Comparison(
        estimate=Estimate(value, error, min(e.n_eff for e in estimates), (low, high)),
        concept_error=np.stack([c.concept_error for c in columns], axis=1),
        band=np.stack([c.band for c in columns], axis=2),
        p_value=p_value,
        corrected=holm(p_value),
    )
