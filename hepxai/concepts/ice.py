"""Invertible concept-based explanations: non-negative factorisation of a layer."""

from __future__ import annotations

from typing import Any

from hepxai.concepts.factorisation import check_number, nonnegative_directions
from hepxai.concepts.fidelity import reconstruction
from hepxai.concepts.layers import layer_of, position_sample
from hepxai.concepts.result import Concepts
from hepxai.core.console import track
from hepxai.events import Events
from hepxai.explainers.guards import check_scores
from hepxai.explainers.libraries import event_seeds
from hepxai.models.protocols import HasLayerCut

POSITIONS = 50_000
"""Positions of a layer that are factorised: 12 MB for 64 channels."""
HELD_OUT = 4
"""One event of so many is held out of the factorisation, where no test events are given."""
SPLIT_SEED = 20_17


def ice(
    model: HasLayerCut,
    events: Events,
    *,
    test: Events | None = None,
    layer: str | None = None,
    concepts: int = 10,
    positions: int = POSITIONS,
    seed: int = 0,
    progress: bool = False,
) -> Concepts:
    """Find concepts of a convolutional layer by a non-negative factorisation of its activations.

    ``V = S P + U`` with ``S, P ≥ 0``: V has one row per position of each event and one column per channel, a
    row of P is the direction of a concept, S says how much of it is where [ICE: Zhang et al.,
    arXiv:2006.15417]. ``‖U‖²`` is minimised (Frobenius) on a random sample of positions, as many from every
    event, so that memory does not grow with the events. Weights play no part in the factorisation.

    Reconstruction error and fidelity are measured, with the signed weights, on events that were not
    factorised.

    Parameters
    ----------
    model : HasLayerCut
    events : Events
        Events to factorise.
    test : Events, optional
        Events to measure error and fidelity on. By default a quarter of ``events``, chosen by a hash of their
        identity, is held out.
    layer : str, optional
        A layer behind its ReLU; the last one of ``feature_layers`` by default.
    concepts : int
        Number of concepts; `hepxai.concepts.choice.choose_concepts` compares numbers.
    positions : int
        Size of the sample.
    seed : int
        Of the sample and of the start.
    progress : bool
        Show a progress bar.

    Returns
    -------
    Concepts

    Raises
    ------
    CannotExplainError
        The model has no maps, or cannot go on from replaced ones.
    ValueError
        Negative activations, a layer that is 0, more concepts than channels or positions, no test events.
    """
    layer = layer_of(model, layer)
    check_scores(model, events)
    train, test = split(events, test)
    with track("concepts", 3, show=progress) as advance:
        vectors = position_sample(model, train, layer, positions, seed)
        check_number(concepts, vectors.shape, layer)
        advance(1)
        directions = nonnegative_directions(vectors, concepts, seed, layer)
        advance(1)
        result = reconstruction(model, test, layer, directions.values)
        advance(1)
    settings: dict[str, Any] = {"layer": layer, "concepts": concepts, "positions": positions, "seed": seed}
    settings |= {"iterations": directions.iterations, "events": len(train), "test_events": len(test)}
    return Concepts(model, layer, directions.values, result.error, result.fidelity, settings)


def split(events: Events, test: Events | None) -> tuple[Events, Events]:
    """Events to factorise, and events to measure on.

    Raises
    ------
    ValueError
        If one part has fewer than two events, or both are the same.
    """
    if test is None:
        held_out = event_seeds(events, SPLIT_SEED)[:, 0] % HELD_OUT == 0
        events, test = events[~held_out], events[held_out]
    elif test.fingerprint() == events.fingerprint():
        raise ValueError("test= has the events that are factorised: their error is too small; give others")
    if min(len(events), len(test)) < 2:
        raise ValueError(
            f"{len(events)} events to factorise and {len(test)} to test: at least 2 of each are needed; give "
            "more events, or others by test="
        )
    return events, test
