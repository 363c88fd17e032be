"""What `explain` finds out about a model before it explains, and says about a result afterwards."""

from __future__ import annotations

import pickle
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch_geometric.data import Batch
from torch_geometric.nn import GraphConv, global_mean_pool

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.explainers.base import CheckWarning
from hepxai.models import PygModel
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.table import TableModel

CLASSES = ("background", "signal")


class Graph(nn.Module):
    """One layer of messages and a readout, with a fault or an ending of choice."""

    def __init__(
        self, fault: str = "", outputs: int = 1, end: Callable[[Tensor], Tensor] = lambda z: z
    ) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv, self.last, self.end = GraphConv(5, 8, aggr="mean"), nn.Linear(8, outputs), end
        self.fault, self.norm = fault, nn.BatchNorm1d(8, track_running_stats=False)

    def forward(self, batch: Batch) -> Tensor:
        x = torch.tanh(self.conv(batch.x / 50, batch.edge_index))
        if self.fault == "dropout":
            x = F.dropout(x, 0.1)
        if self.fault == "batch statistics":
            x = self.norm(x)
        if self.fault == "no batch vector":
            x = x - x.mean(0)
        if self.fault == "order":
            x = x / (1 + torch.arange(len(x)) - batch.ptr[batch.batch])[:, None]
        return self.end(5 * self.last(global_mean_pool(x, batch.batch, batch.num_graphs)))


@pytest.fixture
def many(toy: Callable[..., Events]) -> Events:
    return toy(40, seed=4, smallest=2, largest=5)


# --- scores ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("dropout", r"two scores of one event differ .*F.dropout\(x, p, training=self.training\)"),
        (
            "batch statistics",
            "depends on the other events of its batch .*track_running_stats=False",
        ),
        ("no batch vector", "depends on the other events of its batch .*lack the batch vector"),
    ],
)
@pytest.mark.parametrize("method", ["edge_ig", "node_ig", "shapley"])
def test_scores_that_are_no_function_of_the_event_are_refused(many, fault, message, method):
    with pytest.raises(ValueError, match=message):
        explain(PygModel(Graph(fault), ("score",)), many, method)


@pytest.mark.parametrize("view", ["table", "image"])
def test_scores_of_tables_and_images_as_well(toy, view):
    """BatchNorm that never learned statistics, in evaluation as in training."""
    events = toy(40)
    norm = nn.BatchNorm1d(1, track_running_stats=False)
    size = len(events.schema.globals) if view == "table" else int(np.prod(events.image_layout().shape))
    net = nn.Sequential(nn.Flatten(), nn.Linear(size, 1), norm)
    model, method = (
        (TableModel(net, ("score",), events.schema), "feature_ig")
        if view == "table"
        else (ImageModel(net, ("score",), events.schema), "image_ig")
    )
    with pytest.raises(ValueError, match=r"cannot be scored alone|depends on the other events of its batch"):
        explain(model, events, method)


def test_an_order_that_matters_is_named(many):
    with pytest.warns(UserWarning, match=r"depends on the order of the particles .* \d"):
        explain(PygModel(Graph("order"), ("score",)), many, "node_ig", steps=2)


def test_the_module_is_left_as_it_is(many):
    module = Graph()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    explain(PygModel(module, ("score",)), many, "edge_ig", steps=4)
    assert all(
        torch.equal(v, before[k]) and v.dtype == before[k].dtype for k, v in module.state_dict().items()
    )


class Edits(Graph):
    """Rescales its inputs in place, as many networks do, or the same out of place."""

    def __init__(self, in_place: bool) -> None:
        super().__init__()
        self.in_place = in_place

    def forward(self, batch: Batch) -> Tensor:
        if self.in_place:
            batch.x /= 2
            batch.p4[:, 0].div_(50)
        else:
            batch.x, pt = batch.x / 2, batch.p4[:, :1] / 50
            batch.p4 = torch.cat([pt, batch.p4[:, 1:]], 1)
        batch.x = batch.x + batch.p4[:, :1]
        return super().forward(batch)


@pytest.mark.parametrize("method", ["edge_ig", "node_ig", "shapley"])
def test_a_module_that_edits_its_batch_is_explained_as_one_that_does_not(many, method):
    settings = {} if method == "shapley" else {"steps": 8}
    before = many.particles.copy(), many.p4.copy()
    edited, plain = (explain(PygModel(Edits(e), ("s",)), many, method, **settings) for e in (True, False))
    np.testing.assert_allclose(edited.values, plain.values, atol=1e-6)
    np.testing.assert_array_equal(many.particles, before[0])
    np.testing.assert_array_equal(many.p4, before[1])


def test_a_table_that_is_edited_stays_as_it_was(toy):
    class Halved(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            x /= 2
            return super().forward(x)

    events = toy(12)
    before = events.globals.copy()
    model = TableModel(Halved(2, 1), ("score",), events.schema)
    np.testing.assert_array_equal(model.logits(events), model.logits(events))
    explain(model, events, "feature_ig", steps=4)
    np.testing.assert_array_equal(events.globals, before)


def test_statistics_that_fail_for_one_event_are_named(toy):
    class Spread(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            return super().forward((x - x.mean(0)) / (x.std(0) + 1))

    events = toy(12)
    with pytest.raises(ValueError, match=r"scored alone|depends on the other|batch statistics"):
        explain(TableModel(Spread(2, 1), ("score",), events.schema), events, "feature_ig")


def test_a_score_without_gradient_is_told_what_needs_none(many):
    class Detached(Graph):
        def forward(self, batch: Batch) -> Tensor:
            return super().forward(batch).detach()

    model = PygModel(Detached(), ("score",))
    for method in ("edge_ig", "node_ig"):
        with pytest.raises(ValueError, match=r"no gradient: is forward detached.*shapley"):
            explain(model, many, method)
    assert len(explain(model, many, "shapley").values)


def test_two_outputs_of_other_names_are_named(many):
    model = PygModel(Graph(outputs=2), ("bkg", "sig"))
    with pytest.warns(UserWarning, match="sig is one of two outputs: .* target='sig-bkg'"):
        assert explain(model, many, "node_ig", steps=2, target="sig").target == "sig"
    assert explain(model, many, "node_ig", steps=2, target="sig-bkg").target == "sig-bkg"
    with pytest.raises(ValueError, match="two outputs have the same name: signal, signal"):
        explain(PygModel(Graph(outputs=2), ("signal", "signal")), many, "node_ig", target="signal")


# --- targets -------------------------------------------------------------------------------------------


def shifted(end: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """Any g(x) added to all logits."""
    return lambda z: end(z + 3 * torch.sin(z.sum(-1, keepdim=True)))


@pytest.mark.filterwarnings("ignore:.*is one of two outputs")
@pytest.mark.parametrize("method", ["edge_ig", "node_ig", "shapley", "shapley_interaction"])
def test_a_contrast_does_not_see_what_is_added_to_all_logits(many, method):
    settings = {} if "shapley" in method else {"steps": 48}
    plain = PygModel(Graph(outputs=2), CLASSES)
    added = PygModel(Graph(outputs=2, end=shifted(lambda z: z)), CLASSES)
    as_logs = PygModel(Graph(outputs=2, end=lambda z: F.log_softmax(z, -1)), CLASSES)
    values = explain(plain, many, method, target="signal-background", **settings).values
    one, other = (
        explain(PygModel(Graph(outputs=2), ("a", "b")), many, method, target=t, **settings) for t in "ba"
    )
    scale = np.abs(values).max()
    np.testing.assert_allclose(values, one.values - other.values, atol=1e-5 * scale)
    for model, tolerance in ((added, 2e-3), (as_logs, 2e-3)):
        again = explain(model, many, method, target="signal-background", **settings)
        np.testing.assert_allclose(again.values, values, atol=tolerance * scale)


@pytest.mark.parametrize(
    "method", ["feature_ig", "conductance", "kernel_shap", "image_ig", "saliency", "ram"]
)
def test_contrasts_of_tables_and_images(toy, method):
    """Two outputs and their difference as a module of its own."""
    events, of_image = toy(12), method in ("image_ig", "saliency", "ram")
    torch.manual_seed(9)
    size = 4 * 3 if of_image else len(events.schema.globals)
    hidden = nn.Sequential(
        *([nn.Conv2d(2, 3, 3, padding=1), nn.AdaptiveAvgPool2d(2), nn.Flatten()] if of_image else []),
        nn.Linear(size, 6),
        nn.Tanh(),
    )
    last, difference = nn.Linear(6, 2), nn.Linear(6, 1)
    with torch.no_grad():
        difference.weight.copy_(last.weight[1:] - last.weight[:1])
        difference.bias.copy_(last.bias[1:] - last.bias[:1])
    wrap = ImageModel if of_image else TableModel
    two = wrap(nn.Sequential(*hidden, last), CLASSES, events.schema)
    one = wrap(nn.Sequential(*hidden, difference), ("score",), events.schema)
    contrast = explain(two, events, method, target="signal-background")
    np.testing.assert_allclose(contrast.values, explain(one, events, method).values, rtol=1e-3, atol=1e-5)


def test_one_of_two_classes_is_explained_by_their_difference(many):
    model = PygModel(Graph(outputs=2), CLASSES)
    contrast = explain(model, many, "node_ig", steps=4, target="signal-background")
    with pytest.warns(UserWarning, match="target='signal' is explained as 'signal-background'"):
        named = explain(model, many, "node_ig", steps=4, target="signal")
    np.testing.assert_array_equal(named.values, contrast.values)
    assert named.target == contrast.target == "signal-background"


@pytest.mark.filterwarnings("ignore:.*is one of two outputs")
@pytest.mark.parametrize(
    ("end", "outputs", "message"),
    [
        (lambda z: F.log_softmax(z, -1), 2, "log-probabilities"),
        (lambda z: F.softmax(z, -1), 2, "probabilities"),
        (torch.sigmoid, 1, "probabilities"),
    ],
)
def test_probabilities_are_recognised(many, end, outputs, message):
    names = ("a", "b")[:outputs]
    with pytest.warns(UserWarning, match=message):
        explain(PygModel(Graph(outputs=outputs, end=end), names), many, "node_ig", steps=2, target="a")


@pytest.mark.parametrize("target", ["muon", "signal-muon", "signal-signal", "signal - "])
def test_unknown_targets_name_the_outputs(many, target):
    with pytest.raises(
        KeyError, match=r"choose one of background, signal, or a difference such as 'signal-back"
    ):
        explain(PygModel(Graph(outputs=2), CLASSES), many, "node_ig", target=target)


@pytest.mark.filterwarnings("ignore:.*is one of two outputs")
def test_names_with_a_dash_are_outputs_first(many):
    model = PygModel(Graph(outputs=2), ("tt-like", "tt"))
    assert explain(model, many, "node_ig", steps=2, target="tt-like").target == "tt-like"
    assert explain(model, many, "node_ig", steps=2, target="tt-like-tt").target == "tt-like-tt"


# --- checks that are bad -------------------------------------------------------------------------------


@pytest.fixture
def coarse(many: Events) -> Attribution:
    """Integrated with one step, along a curve."""
    with pytest.warns(CheckWarning, match=r"edge_ig: values add up .* only within \d"):
        return explain(PygModel(Graph(), ("signal",)), many, "edge_ig", steps=1, tolerance=1e-5)


def test_a_bad_check_is_warned_of_stored_and_shown(coarse, tmp_path):
    assert len(coarse.concerns) == 1
    assert "values add up" in coarse.concerns[0]
    assert coarse.caveat == coarse.concerns[0]
    assert f"caution: {coarse.caveat}>" in repr(coarse)
    assert coarse.select(pair=("muon", "jet")).caveat == coarse.caveat
    coarse.save(tmp_path / "map.safetensors")
    assert Attribution.load(tmp_path / "map.safetensors", coarse.events).concerns == coarse.concerns
    fine = coarse.replace(concerns=())
    joined = Attribution.concatenate([coarse[:10], fine[10:]])
    assert joined.concerns == coarse.concerns
    assert fine.caveat is None
    assert "caution" not in repr(fine)


@pytest.mark.parametrize(
    ("median", "tail", "is_bad"),
    [(0.0149, 0.19, False), (0.0151, 0.0151, True), (0.001, 0.21, True), (np.inf, np.inf, True)],
)
def test_residuals_that_are_too_large(median, tail, is_bad):
    for name in ("edge_ig", "image_ig", "shapley", "conductance"):
        concerns = EXPLAINERS[name]().concerns({"median_residual": median, "p90_residual": tail})
        assert bool(concerns) == is_bad


def test_attention_that_does_not_add_up_is_said(many):
    class Gates:
        view, outputs = "graph", ("score",)

        def logits(self, events: Events) -> np.ndarray:
            return np.zeros((len(events), 1))

        def attention(self, cloud):
            pairs = int((cloud.counts * (cloud.counts - 1)).sum())
            return {"gates": torch.full((pairs, 1), 0.7)}

    with pytest.warns(CheckWarning, match="attention: coefficients of a receiver add up to 1 only within"):
        assert "not a softmax" in explain(Gates(), many, "attention").caveat


# --- arguments -------------------------------------------------------------------------------------------


def test_one_method_a_call(many):
    with pytest.raises(
        TypeError, match=r"third argument is of type list.*explain\(model, events, name\) for name"
    ):
        explain(PygModel(Graph(), ("score",)), many, ["edge_ig", "node_ig"])


def test_one_type_is_no_pair(coarse):
    with pytest.raises(TypeError, match=r"two are needed, as in pair=\('muon', 'muon'\)"):
        coarse.select(pair="muon")
    coarse.select(pair=("muon", "muon"))


def test_modules_without_messages_are_told_what_works(many):
    class DeepSets(Graph):
        def __init__(self) -> None:
            super().__init__()
            self.conv = nn.Linear(5, 8)

        def forward(self, batch: Batch) -> Tensor:
            return self.last(
                global_mean_pool(torch.tanh(self.conv(batch.x / 50)), batch.batch, batch.num_graphs)
            )

    model = PygModel(DeepSets(), ("score",))
    with pytest.raises(
        CannotExplainError, match=r"no message-passing layer, .*work on it: counterfactual, node_ig, shapley,"
    ) as e:
        explain(model, many, "edge_ig")
    for name in str(e.value).rpartition(": ")[2].split(", "):
        assert name in ("surrogate", "counterfactual") or len(explain(model, many, name).values)
    with pytest.raises(CannotExplainError, match="no attention layer"):
        explain(model, many, "attention")


def test_attributions_and_settings_survive_pickle(coarse):
    assert pickle.loads(pickle.dumps(EXPLAINERS["edge_ig"](steps=3))) == EXPLAINERS["edge_ig"](steps=3)
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(coarse)).values, coarse.values)
