"""Sanity check by randomisation: a map of a trained model against those of a model with random layers."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.core.estimate import Estimate, as_arrays
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.explainers.methods import configure
from hepxai.metrics.pixels import hit_rank_agreement
from hepxai.models.protocols import Model

DRAWS = 3
"""Draws of random weights, by default."""


@dataclass(frozen=True)
class Randomisation:
    """Similarity of a map to the maps after the layers were randomised, from the output down.

    Attributes
    ----------
    layers : tuple of str, length K
        In the order of the randomisation; each map is that of a model without this layer and all before it.
    correlation : Estimate
        ``[K]``: rank correlation of |value| over the lit pixels with the map of the trained model, weighted
        mean over events, averaged over the draws of weights. The error combines that of the events with that
        of the mean over the draws, from their spread; for a single draw it is the former only. Near 0 after
        all layers: the map depends on what was learned.
    """

    layers: tuple[str, ...]
    correlation: Estimate

    def __repr__(self) -> str:
        return f"<Randomisation: {len(self.layers)} layers, at the end {self.last}>"

    @property
    def last(self) -> Estimate:
        """Rank correlation after all layers."""
        return self.correlation.at((len(self.layers) - 1,))


def cascading_randomisation(
    model: Model,
    events: Events,
    method: str,
    *,
    target: str | None = None,
    only_last: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
    **settings: Any,
) -> Randomisation:
    """Randomise the layers of a copy of the model from the output down, and explain after each.

    The model itself is not touched [Adebayo et al., arXiv:1810.03292].

    Parameters
    ----------
    model : Model
        With a torch module as ``module``.
    events : Events
    method : str
    target : str, optional
        See `hepxai.explainers.methods.explain`.
    only_last : bool
        Explain only after all layers were randomised: one map a draw instead of one for each layer.
    draws : int
        Independent draws of the fresh weights.
    seed : int
        Of the fresh weights.
    progress : bool
        Show a progress bar.
    **settings
        Of the method.

    Raises
    ------
    CannotExplainError
        If the model has no torch module with parameters.
    ValueError
        If there is no draw.
    """
    trained = explain(model, events, method, target=target, **settings)
    return similarity(
        trained, model, settings, only_last=only_last, draws=draws, seed=seed, progress=progress
    )


def similarity(
    trained: Attribution,
    model: Model,
    settings: Mapping[str, Any],
    *,
    reference: Events | None = None,
    only_last: bool = False,
    draws: int = DRAWS,
    seed: int = 0,
    progress: bool = False,
) -> Randomisation:
    """`cascading_randomisation` for a given map of the trained model.

    A method that needs more than the explained events, such as a background, is prepared on ``reference``.
    """
    reference = trained.events if reference is None else reference
    if draws < 1:
        raise ValueError(f"draws={draws}; at least 1 is needed")
    layers = layers_from_output(copy.deepcopy(model), trained.events)
    explainer = configure(trained.method, settings)
    correlations: list[Estimate] = []
    title = f"randomised {trained.method}"
    with isolated_seed(seed), track(title, draws * len(layers), show=progress) as advance:
        for _ in range(draws):
            randomised: Any = copy.deepcopy(model)
            for name in layers:
                randomise(randomised.module.get_submodule(name))
                if not only_last or name == layers[-1]:
                    prepared = explainer.prepare(randomised, reference, trained.target)
                    other = prepared.attribute(trained.events)
                    correlations.append(hit_rank_agreement(trained, other).mean)
                advance(1, name)
    value, error = (column.reshape(draws, -1) for column in as_arrays(correlations))
    between = value.var(0, ddof=1) / draws if draws > 1 else 0.0
    total = np.sqrt(error.mean(0) ** 2 + between)
    estimate = Estimate(value.mean(0), total, correlations[-1].n_eff)
    return Randomisation(layers[-1:] if only_last else layers, estimate)


def layers_from_output(model: Any, events: Events) -> tuple[str, ...]:
    """Names of the submodules with parameters of their own, the last one called first.

    Raises
    ------
    CannotExplainError
        If there are none.
    """
    module = getattr(model, "module", None)
    named = dict(module.named_modules()) if isinstance(module, nn.Module) else {}
    layers = {name: part for name, part in named.items() if any(True for _ in part.parameters(recurse=False))}
    if not layers:
        raise CannotExplainError(
            f"{type(model).__name__} has no `module` with parameters to randomise; wrap a torch module"
        )
    calls: list[str] = []
    hooks = [
        part.register_forward_hook(lambda *_, name=name: calls.append(name)) for name, part in layers.items()
    ]
    model.logits(events[:1])
    for hook in hooks:
        hook.remove()
    order = dict.fromkeys([*reversed(calls), *reversed(layers)])
    return tuple(order)


def randomise(module: nn.Module) -> None:
    """Fresh weights of a module's own parameters.

    By its ``reset_parameters``; a module without gets normal numbers with the mean square of the old weights.
    """
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()
        return
    with torch.no_grad():
        for weight in module.parameters(recurse=False):
            weight.normal_(0.0, float(weight.square().mean().sqrt()) or 1.0)


@contextmanager
def isolated_seed(seed: int) -> Iterator[None]:
    """Seed torch and hide warnings about an untrained model; restore both."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.manual_seed(seed)
        yield
