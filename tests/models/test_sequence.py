"""Modules of padded particles: attention, edge weights and scores against slow references."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from sequence_networks import Encoder, HandWritten, ParT
from torch import Tensor, nn

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import CannotExplainError, explain
from hepxai.models import SequenceModel
from hepxai.models.protocols import Differentiable, HasAttention, HasEdgeWeights

PAIRS = ("delta_r", "log_mass")
STEPS = {"steps": 16}


@pytest.fixture
def events(toy: Callable[..., Events]) -> Events:
    events = toy(12, seed=4, smallest=1, largest=6)
    return events.replace(schema=dataclasses.replace(events.schema, pair_features=PAIRS))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(5)


def encoder(events: Events, **settings: Any) -> SequenceModel:
    return SequenceModel(Encoder(5), ("signal",), events.schema, mask="padded", **settings)


def hand_written(events: Events) -> SequenceModel:
    return SequenceModel(HandWritten(5), ("signal",), events.schema)


def part(events: Events, *, token: bool = False) -> SequenceModel:
    inputs = {"x": events.schema.features, "pairs": "pair_features"}
    network = ParT(5, 2, outputs=1, token=token)
    return SequenceModel(network, ("signal",), events.schema, inputs=inputs, layout="features_first")


MODELS = {"encoder": encoder, "hand_written": hand_written, "part": part}


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest, events: Events) -> SequenceModel:
    return MODELS[request.param](events)


# --- scores ------------------------------------------------------------------------------------------


def test_abilities(model: SequenceModel) -> None:
    for ability in (Differentiable, HasAttention, HasEdgeWeights):
        assert isinstance(model, ability)


def test_logits_are_those_of_each_event_alone(events: Events) -> None:
    """By hand, without padding and without the package."""
    model = encoder(events)
    parts = np.split(events.particles, events.offsets[1:-1])
    with torch.no_grad():
        network = model.module.eval()
        alone = [network(torch.tensor(x)[None], torch.zeros(1, len(x), dtype=torch.bool)) for x in parts]
    model.module.train()
    np.testing.assert_allclose(model.logits(events), torch.cat(alone), atol=1e-6)
    assert model.module.layer.training  # as it was
    assert model.logits(events[:0]).shape == (0, 1)


def test_inputs_are_built_from_the_schema(events: Events) -> None:
    """Columns, four-vectors, pair features and mask in both layouts, at a fixed length."""
    seen: dict[str, Any] = {}

    def call(module: nn.Module, columns: Tensor, p4: Tensor, pairs: Tensor, mask: Tensor) -> Tensor:
        seen.update(columns=columns, p4=p4, pairs=pairs, mask=mask)
        return module(columns.sum(1))

    inputs = {"columns": ["phi", "pt"], "p4": "p4", "pairs": "pair_features"}
    settings = {"call": call, "inputs": inputs, "length": 9}
    model = SequenceModel(nn.Linear(2, 1), ("signal",), events.schema, **settings)
    model.logits(events[[0]])
    n, (pt, eta, phi, mass) = events.counts[0], events.p4[events.offsets[0]].astype(float)
    assert [list(v.shape) for v in seen.values()] == [[1, 9, 2], [1, 9, 4], [1, 2, 9, 9], [1, 9]]
    np.testing.assert_array_equal(seen["columns"][0, :n], events.particles[: events.offsets[1], [2, 0]])
    assert not seen["columns"][0, n:].any()
    assert seen["mask"].sum() == n
    energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
    expected = [pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), energy]
    np.testing.assert_allclose(seen["p4"][0, 0], expected, rtol=1e-5)
    first, second = events.p4[0], events.p4[1]
    assert seen["pairs"][0, 0, 0, 1] == pytest.approx(
        np.hypot(first[1] - second[1], np.angle(np.exp(1j * (first[2] - second[2])))), rel=1e-5
    )
    other = dataclasses.replace(
        model, layout="features_first", mask="padded", call=lambda m, *a: call(m, a[0].mT, *a[1:])
    )
    before = {name: value.clone() for name, value in seen.items()}
    other.logits(events[[0]])
    assert torch.equal(seen["p4"], before["p4"].mT)
    assert torch.equal(seen["mask"], ~before["mask"])


# --- attention ---------------------------------------------------------------------------------------


def attention_of(network: Encoder, x: Tensor) -> list[Tensor]:
    """Weights ``[head, n, n]`` of both layers of one event, as torch returns them with need_weights=True."""
    h = torch.tanh(network.embed(x / 20))[None]
    settings = {"need_weights": True, "average_attn_weights": False}
    _, first = network.layer.self_attn(h, h, h, **settings)
    h = network.layer(h)
    _, second = network.attend(h, h, h, **settings)
    return [first[0], second[0]]


def test_attention_is_that_of_torch(events: Events) -> None:
    model = encoder(events)
    assert model.edge_layers == ("layer.self_attn", "attend")
    attribution = explain(model, events, "attention")
    assert attribution.axes == ("pair", "layer", "head")
    assert attribution.checks["max_row_deviation"] < 1e-6
    network = model.module.eval()
    for e, x in enumerate(np.split(events.particles, events.offsets[1:-1])):
        one = attribution[[e]]
        with torch.no_grad():
            expected = attention_of(network, torch.tensor(x))
        for i, weights in enumerate(expected):
            pairs = weights[:, one.pairs.dst, one.pairs.src].T
            np.testing.assert_allclose(one.values[:, i], pairs, atol=1e-6)
            np.testing.assert_allclose(one.self_values[:, i], weights.diagonal(dim1=1, dim2=2).T, atol=1e-6)


def test_attention_of_a_softmax_by_hand(events: Events) -> None:
    model = hand_written(events)
    assert model.edge_layers == ("attn",)
    found, layer = explain(model, events[[2]], "attention"), model.module.attn
    with torch.no_grad():
        h = torch.tanh(model.module.embed(torch.tensor(events[[2]].particles) / 20))
        q, k, _ = layer.project(h).unflatten(-1, (3, 2, -1)).permute(1, 2, 0, 3)
        weights = (q @ k.mT).softmax(-1)
    np.testing.assert_allclose(found.values[:, 0], weights[:, found.pairs.dst, found.pairs.src].T, atol=1e-6)


def test_class_tokens(events: Events) -> None:
    """Rows of a class token are left out; columns too, and the others are a softmax without them."""
    with pytest.warns(UserWarning, match="layer cls_block attends from class tokens only"):
        attribution = explain(part(events), events, "attention")
    assert attribution.labels["layer"] == ("blocks.0", "blocks.1")
    model = part(events, token=True)
    with pytest.warns(UserWarning, match="of particles goes to class tokens") as told:
        attribution = explain(model, events, "attention")
    assert {str(w.message).partition(":")[0] for w in told} == {"layer blocks.0", "layer blocks.1"}
    assert attribution.checks["max_row_deviation"] < 1e-5
    weights = recorded(model, events, 0, "blocks.0")
    n = int(events.counts[0])
    assert weights.shape[1:] == (n + 1, n + 1)
    particles = weights[:, 1:, 1:] / weights[:, 1:, 1:].sum(-1, keepdim=True)
    one = attribution[[0]]
    np.testing.assert_allclose(one.values[:, 0], particles[:, one.pairs.dst, one.pairs.src].T, atol=1e-6)


def recorded(model: SequenceModel, events: Events, event: int, layer: str) -> Tensor:
    """Weights ``[head, T, S]`` of a block of `ParT`, from queries and keys seen by hooks."""
    block, seen = model.module.get_submodule(layer), {}
    hooks = [
        getattr(block, n).register_forward_hook(lambda *a, n=n: seen.update({n: a[-1][0].detach()}))
        for n in ("q", "kv")
    ]
    hooks.append(
        model.module.pair_embed.register_forward_hook(lambda *a: seen.update(bias=a[-1][0].detach()))
    )
    model.logits(events[[event]])
    for hook in hooks:
        hook.remove()
    q, k = (x.unflatten(-1, (2, -1)).transpose(0, 1) for x in (seen["q"], seen["kv"].chunk(2, dim=-1)[0]))
    bias = nn.functional.pad(seen["bias"], (1, 0, 1, 0)) if model.module.token else seen["bias"]
    return (q @ k.mT / q.shape[-1] ** 0.5 + bias).softmax(-1)


# --- edge weights ------------------------------------------------------------------------------------


def test_edge_ig_is_complete(model: SequenceModel, events: Events) -> None:
    for layer in model.edge_layers:
        attribution = explain(model, events, "edge_ig", layer=layer, **STEPS)
        np.testing.assert_allclose(attribution.residual, 0, atol=3e-6, err_msg=layer)
        assert np.abs(attribution.output_change).max() > 3e-4, layer
        assert np.abs(attribution.self_values).max() > 1e-5, layer
        assert len(attribution.pairs.src) == (events.counts * (events.counts - 1)).sum()


def test_pair_bias_layers(events: Events) -> None:
    assert part(events).edge_layers == ("blocks.0", "blocks.1", "pairs", "pair_embed")


def slow_edge_ig(events: Events, score: Callable[[Tensor], Tensor], steps: int = 16) -> Tensor:
    """Integral over the weights ``[n, n]`` (receiver, sender) of one event, all equal to t."""
    node, weight = np.polynomial.legendre.leggauss(steps)
    n, total = int(events.counts[0]), 0.0
    for t, w in zip((node + 1) / 2, weight / 2, strict=True):
        entries = torch.full((n, n), float(t), requires_grad=True)
        total = total + w * torch.autograd.grad(score(entries), entries)[0]
    return total


def assert_entries(found: Attribution, expected: Tensor) -> None:
    scale = float(expected.abs().max())
    assert scale > 1e-4
    np.testing.assert_allclose(found.values, expected[found.pairs.dst, found.pairs.src], atol=1e-3 * scale)
    np.testing.assert_allclose(found.self_values, expected.diagonal(), atol=1e-3 * scale)


@pytest.mark.parametrize("event", [0, 3])
def test_edge_ig_over_attention_by_hand(events: Events, event: int) -> None:
    """``nn.MultiheadAttention`` from its weights, with each entry multiplied after the softmax."""
    model, one = encoder(events), events[[event]]
    network, x = model.module.eval(), torch.tensor(one.particles)

    def score(entries: Tensor) -> Tensor:
        attend = network.attend
        h = network.layer(torch.tanh(network.embed(x / 20))[None])[0]
        q, k, v = (
            p.unflatten(-1, (2, -1)).transpose(0, 1)
            for p in nn.functional.linear(h, attend.in_proj_weight, attend.in_proj_bias).chunk(3, -1)
        )
        weights = (q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) * entries
        mixed = attend.out_proj((weights @ v).transpose(0, 1).flatten(1))
        return network.last((h + mixed).mean(0))[0]

    attribution = explain(model, events, "edge_ig", layer="attend", **STEPS)
    assert_entries(attribution[[event]], slow_edge_ig(one, score))


def test_edge_ig_over_the_pair_bias_by_hand(events: Events) -> None:
    model, one = part(events), events[[3]]
    attribution = explain(model, events, "edge_ig", layer="pair_embed", **STEPS)
    network, embed = model.module.eval(), model.module.pair_embed

    def score(entries: Tensor) -> Tensor:
        hook = embed.register_forward_hook(lambda *a: a[-1] * entries)
        try:
            return model.forward_cloud(cloud_of(one))[0, 0]
        finally:
            hook.remove()

    assert not network.training
    assert_entries(attribution[[3]], slow_edge_ig(one, score))


def cloud_of(events: Events) -> Any:
    from hepxai.models.graph.cloud import Cloud

    return Cloud.of(events)


def test_events_are_independent(model: SequenceModel, events: Events) -> None:
    """Alone as in a batch, and at a fixed length."""
    whole = explain(model, events, "edge_ig", **STEPS)
    for event in (5,):
        alone = explain(model, events[[event]], "edge_ig", **STEPS)
        np.testing.assert_allclose(whole[[event]].values, alone.values, atol=1e-6)
    longer = explain(dataclasses.replace(model, length=9), events, "edge_ig", **STEPS)
    np.testing.assert_allclose(longer.values, whole.values, atol=1e-6)


@pytest.mark.parametrize("method", ["node_ig", "shapley", "shapley_interaction"])
def test_other_methods(events: Events, method: str) -> None:
    settings = {"quiet": True, "empty": 0.0} if method != "node_ig" else {}
    attribution = explain(part(events), events, method, **settings)
    assert attribution.checks["median_residual"] < 0.01
    assert np.abs(attribution.values).max() > 1e-4


def test_nothing_stays_on_the_module(events: Events) -> None:
    model = part(events)
    with pytest.raises(KeyError), model.edge_path(cloud_of(events), "blocks.0"):
        raise KeyError
    for module in model.module.modules():
        assert not module._forward_hooks
        assert not module._forward_pre_hooks


# --- bad input ---------------------------------------------------------------------------------------


class Unmasked(nn.Module):
    """A mean that counts the padding."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(5, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return self.last(x.mean(1))


def test_padding_without_mask_is_refused(events: Events) -> None:
    model = SequenceModel(Unmasked(), ("signal",), events.schema)
    with pytest.raises(
        ValueError, match=r"depends on the other events of its batch .* does padding lack a mask"
    ):
        explain(model, events, "node_ig")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mask": "true"}, "mask='true'; choose 'real' or 'padded'"),
        ({"layout": "BMF"}, "layout='BMF'; choose 'particles_first'"),
        ({"outputs": "signal"}, r"outputs=\('signal',\)"),
        ({"inputs": {"x": "pt"}}, r"input x is 'pt'; give a list of features, as in \['pt'\]"),
        ({"inputs": {"x": ["pt", "d0"]}}, "no particle feature 'd0'; the card has pt, eta"),
        ({"fixed": ("points",)}, "no input 'points'; there are x"),
    ],
)
def test_wrong_settings(events: Events, settings: dict[str, Any], message: str) -> None:
    with pytest.raises((ValueError, KeyError, TypeError), match=message):
        SequenceModel(**{"module": Encoder(5), "outputs": ("signal",), "schema": events.schema} | settings)


def longer_mask(module: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    return module(x, nn.functional.pad(mask, (0, 2)))


@pytest.mark.filterwarnings("ignore:attention layers cannot be listed")
@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"call": longer_mask}, r"failed on x \[\d+, \d, 5\], mask \[\d+, \d\] .*mask true for padded"),
        ({"inputs": {"x": ("eta", "phi")}}, r"failed on x \[\d+, \d, 2\], mask"),
        ({"layout": "features_first"}, r"failed on x \[\d+, 5, \d\], mask .*features_first"),
        ({"length": 3}, r"an event has \d particles, the module takes length=3; write max: 3"),
        ({"outputs": ("a", "b")}, r"outputs=\('class_0',\)"),
    ],
)
def test_inputs_that_the_module_does_not_take(events: Events, settings: dict[str, Any], message: str) -> None:
    model = dataclasses.replace(encoder(events), **settings)
    with pytest.raises(ValueError, match=message):
        model.logits(events)
    with pytest.raises(ValueError, match=message):  # not that it has no layers
        explain(model, events, "edge_ig")


def test_other_schema_is_refused(events: Events) -> None:
    schema = dataclasses.replace(events.schema, features=("eta", "pt", "phi", "charge", "btag"))
    with pytest.raises(ValueError, match="the model was trained on features"):
        encoder(events).logits(events.replace(schema=schema))


def test_scores_that_are_not_finite(events: Events) -> None:
    model = encoder(events, call=lambda m, x, mask: m(x, mask) + torch.log(x[:, 0, :1] - x[:, 0, :1]) * 0)
    with pytest.raises(ValueError, match=r"scores of 12 of 12 events are not finite; look for a logarithm"):
        model.logits(events)


def test_rows_that_are_no_particles(events: Events) -> None:
    """Positions are added: the rows do not follow the particles."""
    place = torch.linspace(0, 40, 40)[:, None]
    model = encoder(events, call=lambda m, x, mask: m(x + place[: x.shape[1]], mask))
    with (
        pytest.warns(UserWarning, match="order"),
        pytest.raises(ValueError, match="do not follow the particles"),
    ):
        explain(model, events, "edge_ig")


def test_modules_without_attention(events: Events) -> None:
    model = SequenceModel(nn.Linear(5, 1), ("signal",), events.schema, call=lambda m, x, mask: m(x.sum(1)))
    assert model.edge_layers == ()
    with pytest.raises(
        CannotExplainError,
        match=r"no message-passing layer.*these methods work on it: counterfactual, node_ig",
    ):
        explain(model, events, "edge_ig")
    with pytest.raises(CannotExplainError, match=r"no attention layer .*: none of nn.MultiheadAttention, "):
        explain(model, events, "attention")


class DiagonalMasked(nn.Module):
    """Bias of the pairs that masks its own diagonal."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(2, 2, 1)

    def forward(self, pairs: Tensor) -> Tensor:
        diagonal = torch.eye(pairs.shape[-1], dtype=torch.bool)
        return self.mix(pairs).masked_fill(diagonal, -torch.inf)


def test_a_bias_with_a_masked_diagonal(events: Events) -> None:
    """An infinite entry is a mask at every weight: no NaN, and nothing attributed to it."""
    events = events[events.counts > 1]
    model = part(events)
    model.module.pair_embed = DiagonalMasked()
    attribution = explain(model, events, "edge_ig", layer="pair_embed", **STEPS)
    np.testing.assert_allclose(attribution.residual, 0, atol=1e-5)
    assert np.abs(attribution.output_change).max() > 1e-4
    assert attribution.self_values is None or not np.asarray(attribution.self_values).any()


class HeadsFirst(nn.Module):
    """Attention on ``[heads·B, M, M]`` (events first: ``[B·heads, M, M]``)."""

    def __init__(self, heads_first: bool) -> None:
        super().__init__()
        self.heads_first, self.project, self.last = heads_first, nn.Linear(5, 24), nn.Linear(8, 1)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        order = (2, 3, 0, 1, 4) if self.heads_first else (2, 0, 3, 1, 4)
        q, k, v = self.project(x / 10).unflatten(-1, (3, 2, -1)).permute(*order)
        masked = ~(mask[None, :, None] if self.heads_first else mask[:, None, None])
        score = (q @ k.mT).masked_fill(masked, -torch.inf)
        weights = torch.special.softmax(score.flatten(0, 1), -1)
        mixed = (weights @ v.flatten(0, 1)).unflatten(0, score.shape[:2])
        mixed = mixed if not self.heads_first else mixed.transpose(0, 1)
        return self.last((mixed.transpose(1, 2).flatten(2) * mask[..., None]).sum(1))


@pytest.mark.filterwarnings("ignore:left out of the attention")
def test_maps_with_heads_and_events_in_one_axis(events: Events) -> None:
    """Events first are read; heads first, which would give an event the weights of others, are refused."""
    read, other = (SequenceModel(HeadsFirst(h), ("signal",), events.schema) for h in (False, True))
    other.module.load_state_dict(read.module.state_dict())
    np.testing.assert_allclose(read.logits(events), other.logits(events), atol=1e-6)
    whole = explain(read, events, "attention")
    np.testing.assert_allclose(whole[[3]].values, explain(read, events[[3]], "attention").values, atol=1e-5)
    np.testing.assert_allclose(explain(other, events[[3]], "attention").values, whole[[3]].values, atol=1e-5)
    for method in ("attention", "edge_ig"):
        with pytest.raises(ValueError, match=r"is another one in a batch than alone: .* events first"):
            explain(other, events, method)


def test_attention_that_fits_several_rows(events: Events) -> None:
    """Behind a class token, equal weights are those of the particles from row 0 as well as from row 1."""
    model = part(events, token=True)
    with torch.no_grad():
        for parameter in (*model.module.blocks.parameters(), *model.module.pair_embed.parameters()):
            parameter.zero_()
    with pytest.raises(ValueError, match=r"the first particle may be in row 0, 1"):
        explain(model, events, "edge_ig", layer="blocks.0")
