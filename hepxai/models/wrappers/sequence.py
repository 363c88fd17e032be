"""Wrapper for torch modules that take the particles of an event as a padded sequence and a mask."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import ClassVar, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from hepxai.core.chunks import chunk_rows, in_order
from hepxai.events import Events, Schema
from hepxai.events.pair_features import pair_features
from hepxai.models.graph.cloud import Cloud
from hepxai.models.graph.layers import Messages
from hepxai.models.graph.neighbours import Neighbours
from hepxai.models.network import evaluating
from hepxai.models.protocols import EdgeCoefficients, EdgePath
from hepxai.models.schemas import checked_outputs, listed, same_inputs
from hepxai.models.wrappers.modules import as_logits, call_module, cast_like, plain_module
from hepxai.models.wrappers.nodes import same_states
from hepxai.models.wrappers.pair_maps import PairMaps, Visit, recording_maps, scaling_map
from hepxai.models.wrappers.recorded import CLOSE

TESTED_EVENTS, PROBED_PARTICLES = 4, 33
"""Events that test which rows of a map are the particles; particles of the event that lists the layers."""
MODULE_ERRORS = (RuntimeError, IndexError, TypeError, AttributeError, KeyError, AssertionError)
"""Errors of a module that gets inputs of another shape, number or name."""

CHOICES = {"layout": ("particles_first", "features_first"), "mask": ("real", "padded")}
Input = Sequence[str] | Literal["p4", "pair_features"]


@dataclass(frozen=True)
class SequenceModel:
    """A torch module of padded particles as a `hepxai` model.

    The particles of an event keep their order. They are padded with zeros to the longest event of the batch,
    M, or to a fixed length; the mask marks the particles.

    Attributes
    ----------
    module : nn.Module
        Returns logits ``[B, O]``, or ``[B]`` for one output. A compiled or parallel one is unwrapped; it must
        be on the CPU.
    outputs : tuple of str, length O
        Names of the outputs; a tuple for a single output too: ``("signal",)``.
    schema : Schema
        Schema of the training events (``events.schema``); events of another one are refused.
    call : callable
        ``(module, *inputs, mask) -> logits``, with the inputs in their order, by default one of all
        features: ``(module, x, mask)``. Needed if ``forward`` takes them otherwise, e.g.
        ``lambda m, x, mask: m(x, src_key_padding_mask=mask)``. The mask is bool ``[B, M]``.
    inputs : mapping, optional
        Content of each input: names of features, in order; ``"p4"``, the four-vectors px, py, pz, E in GeV;
        or ``"pair_features"``, those of the schema as ``[B, C, M, M]`` (receiver, sender).
    layout : str
        "particles_first": inputs are ``[B, M, F]``. "features_first": ``[B, F, M]``.
    mask : str
        "real": the mask is true for particles. "padded": true for padding, as in a key_padding_mask.
    length : int, optional
        Fixed M, for modules that need one.
    fixed : tuple of str
        Inputs that keep the values of the event while ``node_ig`` moves its particles, as pair features do:
        coordinates of a neighbour search, or four-vectors from which the module computes pair features.
        ``"p4"`` and ``"pair_features"`` are always fixed.

    Raises
    ------
    KeyError
        If the schema lacks a feature.

    Notes
    -----
    ``edge_layers`` are attention layers, named after the module that contains the softmax, and maps
    ``[B, C, M, M]`` returned by a submodule or declared in the schema (the pair bias of a Particle
    Transformer). Edge weights multiply attention after its softmax, the same in all heads, and pair biases
    before it. The entries of class tokens keep the weight 1.
    """

    module: nn.Module
    outputs: tuple[str, ...]
    schema: Schema
    call: Callable[..., Tensor] = call_module
    inputs: Mapping[str, Input] | None = None
    layout: Literal["particles_first", "features_first"] = "particles_first"
    mask: Literal["real", "padded"] = "real"
    length: int | None = None
    fixed: tuple[str, ...] = ()
    view: str = field(default="graph", init=False)
    no_attention: ClassVar[str] = (
        "none of nn.MultiheadAttention, F.scaled_dot_product_attention or a softmax over the last axis gives "
        "weights [B, heads, M, M] inside the module"
    )

    def __post_init__(self) -> None:
        checked_outputs(self.outputs)
        for name, choices in CHOICES.items():
            if getattr(self, name) not in choices:
                raise ValueError(f"{name}={getattr(self, name)!r}; choose {' or '.join(map(repr, choices))}")
        object.__setattr__(self, "module", plain_module(self.module))
        for name, content in self._inputs.items():
            if isinstance(content, str) and content not in ("p4", "pair_features"):
                raise ValueError(
                    f"input {name} is {content!r}; give a list of features, as in [{content!r}], 'p4' or "
                    "'pair_features'"
                )
            self._columns(content)
        if unknown := [name for name in self.fixed if name not in self._inputs]:
            raise ValueError(f"fixed: no input {unknown[0]!r}; there are {listed(list(self._inputs))}")
        if "pair_features" in self._inputs.values() and not self.schema.pair_features:
            raise ValueError("the schema has no pair features; declare pair_features: on the data-set card")

    @property
    def _inputs(self) -> Mapping[str, Input]:
        return {"x": self.schema.features} if self.inputs is None else self.inputs

    def _columns(self, content: Input) -> list[int]:
        return [] if isinstance(content, str) else [self.schema.column(name) for name in content]

    def logits(self, events: Events) -> NDArray[np.float64]:
        """Logits ``[E, O]``.

        Raises
        ------
        ValueError
            If the events have another schema, the module fails on them, or a score is not finite.
        """
        same_inputs(self.schema, events.schema)
        sizes = events.counts if self.length is None else np.full(len(events), self.length)
        chunks, whole = chunk_rows(sizes), Cloud.of(events)
        with torch.no_grad():
            parts = [self.forward_cloud(whole.take(torch.as_tensor(r))).double().numpy() for r in chunks]
        logits = in_order(parts, chunks, (0, len(self.outputs)))
        _refuse_not_finite(logits, events)
        return logits

    def forward_cloud(self, cloud: Cloud, neighbours: dict[str, Neighbours] | None = None) -> Tensor:
        """Logits ``[B, O]``, differentiable, in evaluation mode."""
        fixed = neighbours.inputs if isinstance(neighbours, _FixedInputs) else {}
        return self._forward(cloud, lambda _, values: values, fixed)

    def neighbour_lists(self, cloud: Cloud) -> dict[str, Neighbours]:
        """Fixed inputs for `forward_cloud`; the module searches its own neighbours."""
        content = self._inputs
        return _FixedInputs({n: self._input(content[n], cloud) for n in self.fixed})

    @cached_property
    def edge_layers(self) -> tuple[str, ...]:
        """Attention layers between particles in call order, then pair biases; from a pass of one event."""
        size = min(PROBED_PARTICLES, self.length or PROBED_PARTICLES)
        place = torch.linspace(-1, 1, size)
        p4 = torch.stack([10 + place, place, place, 0.1 + 0 * place], dim=1)
        cloud = Cloud(torch.ones(size, len(self.schema.features)), p4, torch.tensor([0, size]))
        try:
            maps, _ = self._recorded(cloud)
        except ValueError as problem:
            warnings.warn(f"attention layers cannot be listed: {problem}", stacklevel=2)
            return ()
        return tuple(name for name in maps.layers if maps[name][0].shape[2] >= size)

    def attention(self, cloud: Cloud) -> Mapping[str, EdgeCoefficients]:
        """α_ij of the attention layers between particles, with the diagonal; heads as columns.

        Weights of class tokens, and of other rows that are no particles, are left out with a warning: the
        coefficients are then those of the softmax over the particles alone.

        Raises
        ------
        ValueError
            If no attention layer has particles as rows. If some have, the others are left out with a warning.
        """
        maps, _ = self._recorded(cloud)
        test = self._order_test(cloud)
        attention, problems = {}, []
        for name in maps.attention:
            try:
                attention[name] = self._coefficients(name, maps, cloud, test)
            except ValueError as problem:
                problems.append(str(problem))
        if problems and not attention:
            raise ValueError("; ".join(problems) + "; node_ig and shapley need no attention")
        if problems:
            warnings.warn("left out of the attention: " + "; ".join(problems), stacklevel=2)
        return attention

    @contextmanager
    def edge_path(self, cloud: Cloud, layer: str) -> Iterator[EdgePath]:
        """Logits as a function of the edge weights of a layer; the state is the vector of edge weights.

        Raises
        ------
        ValueError
            If the rows of the layer are not the particles, or it is not called once.
        """
        maps, logits = self._recorded(cloud)
        values, first = self._map(layer, maps, cloud, self._order_test(cloud))
        event, receiver, sender = _pairs(cloud)
        ones = torch.ones(len(event), dtype=values.dtype)

        def after(weights: Tensor, frozen: bool) -> Tensor:
            scale = torch.ones(len(values), 1, *values.shape[2:], dtype=values.dtype)
            scale = scale.index_put(
                (event, torch.zeros_like(event), first + receiver, first + sender), weights
            )
            with scaling_map(self.module, layer, scale, cloud.longest) as visit:
                return self._forward(cloud, visit)

        src, dst = cloud.ptr[event] + sender, cloud.ptr[event] + receiver
        yield EdgePath(Messages(src, dst, torch.zeros_like(ones), ones, lambda g: g), logits, after)

    # --- inputs ------------------------------------------------------------------------------

    def _forward(self, cloud: Cloud, bias: Visit, fixed: Mapping[str, Tensor] | None = None) -> Tensor:
        if self.length is not None and cloud.longest > self.length:
            raise ValueError(
                f"an event has {cloud.longest} particles, the module takes length={self.length}; write max: "
                f"{self.length} for the particles on the data-set card"
            )
        inputs = dict(fixed or {})
        inputs = {n: inputs[n] if n in inputs else self._input(c, cloud) for n, c in self._inputs.items()}
        inputs |= {n: bias(n, inputs[n]) for n, c in self._inputs.items() if c == "pair_features"}
        mask = F.pad(cloud.mask, (0, self._padding(cloud)))
        arguments = inputs | {"mask": mask if self.mask == "real" else ~mask}
        with evaluating(self.module):
            try:
                returned = self.call(self.module, *arguments.values())
            except MODULE_ERRORS as problem:
                shapes = listed([f"{name} {list(value.shape)}" for name, value in arguments.items()])
                reason = " ".join(str(problem).split()) or type(problem).__name__
                raise ValueError(
                    f"the module failed on {shapes} ({self.layout}, mask true for {self.mask}): {reason}; "
                    "pass what forward takes, as in call=lambda m, x, mask: m(x, mask)"
                ) from problem
        return as_logits(returned, len(cloud), self.outputs, "x, mask")

    def _input(self, content: Input, cloud: Cloud) -> Tensor:
        """Input ``[B, M, F]`` or ``[B, F, M]``; pair features ``[B, C, M, M]``."""
        if content == "pair_features":
            return cast_like(self._pair_features(cloud), self.module)
        flat = _four_vectors(cloud.p4) if content == "p4" else cloud.x[:, self._columns(content)]
        padded = F.pad(cloud.pad(cast_like(flat, self.module)), (0, 0, 0, self._padding(cloud)))
        return padded if self.layout == "particles_first" else padded.transpose(1, 2).contiguous()

    def _pair_features(self, cloud: Cloud) -> Tensor:
        p4, more = cloud.pad(cloud.p4), self._padding(cloud)
        features = pair_features(p4[:, :, None], p4[:, None], self.schema.pair_features)
        real = cloud.mask[:, :, None] & cloud.mask[:, None]
        return F.pad(features.masked_fill(~real[..., None], 0.0).permute(0, 3, 1, 2), (0, more, 0, more))

    def _padding(self, cloud: Cloud) -> int:
        return 0 if self.length is None else self.length - cloud.longest

    # --- maps of pairs -----------------------------------------------------------------------

    def _recorded(self, cloud: Cloud) -> tuple[PairMaps, Tensor]:
        """Maps of the layers, and the logits."""
        with torch.no_grad(), recording_maps(self.module, len(cloud), cloud.longest) as maps:
            logits = self._forward(cloud, maps.add_bias)
        return maps, logits

    def _coefficients(self, layer: str, maps: PairMaps, cloud: Cloud, test: _OrderTest) -> EdgeCoefficients:
        values, first = self._map(layer, maps, cloud, test)
        event, receiver, sender = _pairs(cloud)
        src, dst = cloud.ptr[event] + sender, cloud.ptr[event] + receiver
        alpha = values[event, :, first + receiver, first + sender]
        total = alpha.new_zeros(len(cloud.x), alpha.shape[1]).index_add(0, dst, alpha)[dst]
        if len(alpha) and total.min() < 1 - CLOSE:
            warnings.warn(
                f"layer {layer}: a part of the attention of particles goes to class tokens; the rest is "
                "scaled to a sum of 1 over the particles",
                stacklevel=3,
            )
            alpha = torch.where(total > 0, alpha / total, 0.0)
        return EdgeCoefficients(src, dst, alpha)

    def _map(self, layer: str, maps: PairMaps, cloud: Cloud, test: _OrderTest) -> tuple[Tensor, int]:
        """Map ``[B, C, T, S]`` of a layer, and the row of the first particle; raises as `edge_path`."""
        calls, others = maps[layer], "node_ig and shapley need no attention"
        if len(calls) != 1:
            often = f"is called {len(calls)} times" if calls else "is not called"
            raise ValueError(f"layer {layer} {often} for one batch: use a module for each call; {others}")
        if calls[0].shape[2] < cloud.longest:
            raise ValueError(f"layer {layer} attends from class tokens only; {others}")
        try:
            return calls[0], test.first_row(layer)
        except ValueError as problem:
            raise ValueError(f"layer {layer}: {problem}; {others}") from None

    def _order_test(self, cloud: Cloud) -> _OrderTest:
        """Maps that match rows to particles, recorded once for all layers."""
        sample = _test_events(cloud)
        reverse = sample.ptr[sample.batch] + sample.ptr[sample.batch + 1] - 1 - torch.arange(len(sample.x))
        backwards = Cloud(sample.x[reverse], sample.p4[reverse], sample.ptr)
        alone = sample.take(torch.arange(min(1, len(sample))))
        return _OrderTest(sample, *(self._recorded(part)[0] for part in (sample, backwards, alone)))


@dataclass(frozen=True)
class _OrderTest:
    """Maps of a few events: as they are, with their particles reversed, and of the first event alone."""

    sample: Cloud
    maps: PairMaps
    backwards: PairMaps
    alone: PairMaps

    def first_row(self, layer: str) -> int:
        """Row of the first particle, after those of class tokens.

        Raises
        ------
        ValueError
            If no row fits, several do, or the map of an event depends on the other events of its batch.
        """
        before, after, alone = (
            next(iter(maps[layer]), torch.empty(0, 0, 0, 0))
            for maps in (self.maps, self.backwards, self.alone)
        )
        event, receiver, sender = _pairs(self.sample)
        if not len(event):
            return 0
        last = self.sample.counts[event] - 1
        rows = [
            first
            for first in range(min(before.shape[2], after.shape[2]) - self.sample.longest + 1)
            if same_states(
                before[event, :, first + receiver, first + sender],
                after[event, :, first + last - receiver, first + last - sender],
            )
        ]
        if not rows:
            raise ValueError(
                "its rows do not follow the particles when these are reordered: they are pooled or sorted, "
                "or earlier layers depend on the order (a positional encoding)"
            )
        if len(rows) > 1:
            raise ValueError(
                f"its rows are almost equal, and the first particle may be in row {listed(rows)}: is the "
                "module trained?"
            )
        size = int(self.sample.counts[0])
        inside = slice(rows[0], rows[0] + size)
        one, other = before[0, :, inside, inside], alone[0, :, inside, inside]
        if one.shape != other.shape or not same_states(one, other):
            raise ValueError(
                "its map of an event is another one in a batch than alone: with events and heads in one axis "
                "the order is [B·heads, M, M], events first"
            )
        return rows[0]


class _FixedInputs(dict[str, Neighbours]):
    """No neighbours, and the inputs that stay as they are along a path."""

    def __init__(self, inputs: Mapping[str, Tensor]) -> None:
        super().__init__()
        self.inputs = inputs


def _test_events(cloud: Cloud) -> Cloud:
    """Largest events; two events of particles of different events if none has two of them."""
    sample = cloud.take(torch.argsort(cloud.counts, descending=True, stable=True)[:TESTED_EVENTS])
    if sample.longest > 1 or not len(sample.x):
        return sample
    x, p4 = (torch.cat([flat, 0.9 * flat + 0.1])[:TESTED_EVENTS] for flat in (sample.x, sample.p4))
    x, p4 = (torch.cat([flat, 1.1 * flat]) for flat in (x, p4))
    return Cloud(x, p4, torch.tensor([0, len(x), 2 * len(x)]))


def _pairs(cloud: Cloud) -> tuple[Tensor, ...]:
    """Event, receiver and sender of all ordered pairs of an event, each particle with itself too."""
    return (cloud.mask[:, :, None] & cloud.mask[:, None]).nonzero(as_tuple=True)


def _four_vectors(p4: Tensor) -> Tensor:
    """Momenta px, py, pz and energy ``[N, 4]`` from pt, η, φ and mass."""
    if p4.shape[1] != 4:
        raise ValueError("the input 'p4' needs the momenta of the particles; these have none")
    pt, eta, phi, mass = p4.double().unbind(1)
    x, y, z = pt * phi.cos(), pt * phi.sin(), pt * eta.sinh()
    square = (pt * eta.cosh()) ** 2 + mass * mass.abs()  # a mass below 0 as in ROOT
    return torch.stack([x, y, z, square.clamp(min=0).sqrt()], dim=1).to(p4.dtype)


def _refuse_not_finite(logits: NDArray[np.float64], events: Events) -> None:
    bad = np.asarray(~np.isfinite(logits).all(axis=1))
    if not bad.any():
        return
    empty = int((events.counts[bad] == 0).sum())
    why = "look for a logarithm or a root of 0, and for extreme inputs (`hepxai check`)"
    if empty:
        why = f"{empty} of them have no particle, and attention without any key is NaN: remove such events"
    raise ValueError(f"the scores of {int(bad.sum())} of {len(bad)} events are not finite; {why}")
