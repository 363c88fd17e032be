"""One table for several maps, and maps of models that forget their layers."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch
from image_helpers import cnn, image_events, image_model
from torch import nn

from hepxai.explainers import EXPLAINERS, CannotExplainError, explain
from hepxai.metrics.faithfulness import Removals, region_correlation
from hepxai.metrics.pixels import hit_rank_agreement, truth_share
from hepxai.models.target import Target
from hepxai.models.wrappers.image import ImageModel
from hepxai.studies.comparison.faithfulness_table import ALIKE, RANDOM, FaithfulnessTable, compare_maps
from hepxai.studies.comparison.figures import faithfulness_curves
from hepxai.studies.randomisation.numbers import cascading_randomisation, layers_from_output, similarity

pytestmark = pytest.mark.filterwarnings("ignore:.*does not tell which regions change the output")
METHODS = {"image_ig": {"steps": 8}, "slope": {"method": "saliency", "signed": True}, "saliency": {}}
MEASURES = {"faithfulness", "deletion", "insertion", "infidelity", "sensitivity_0.5", "sparsity"}


@pytest.fixture(scope="module")
def table() -> FaithfulnessTable:
    options = {"truth": "fromMuon", "subsets": (0.5,), "again": 3, "steps": 6}
    return compare_maps(image_model(7), image_events(20), METHODS, "pt", **options)


def test_every_method_has_its_numbers(table: FaithfulnessTable) -> None:
    assert list(table.numbers) == [*METHODS, RANDOM, ALIKE]
    for method in METHODS:
        made_again = {"seconds", "randomised"}
        assert table.numbers[method].keys() >= MEASURES | {"truth_share"} | made_again
    assert "residual" in table.numbers["image_ig"]
    assert "residual" not in table.numbers["saliency"]
    assert table.notes == ()
    assert table.numbers["image_ig"]["seconds"].value > 0
    assert table.agreement is not None
    assert table.agreement.methods == tuple(METHODS)
    assert repr(table) == "<FaithfulnessTable: image_ig, slope, saliency of pt, 20 events>"


def test_numbers_are_those_of_the_metrics(table: FaithfulnessTable) -> None:
    model, events = image_model(7), image_events(20)
    attribution = explain(model, events, "image_ig", target="pt", steps=8)
    output = Target.of(model.outputs, "pt")
    removals = Removals.sample(lambda x: output(model.score_image(x)), events)
    expected = np.nanmean(region_correlation(removals, attribution))
    numbers = table.numbers["image_ig"]
    assert numbers["faithfulness"].value == pytest.approx(expected)
    share = truth_share(attribution, "fromMuon")
    assert numbers["truth_share"].value == pytest.approx(float(share.among_hits.value))
    alike = table.numbers[ALIKE]["truth_share"].value
    assert alike == pytest.approx(float(share.chance.value))


def test_integrated_gradients_beat_chance(table: FaithfulnessTable) -> None:
    own, chance = (table.numbers[m] for m in ("image_ig", RANDOM))
    for what, sign in (("faithfulness", 1), ("insertion", 1), ("deletion", -1), ("infidelity", -1)):
        assert sign * (own[what].value - chance[what].value) > 0
    assert abs(chance["faithfulness"].value) < 4 * chance["faithfulness"].error


def test_rows(table: FaithfulnessTable) -> None:
    rows = list(table.rows())
    assert {frozenset(r) for r in rows} == {
        frozenset({"target", "method", "other", "what", "value", "error", "events"})
    }
    pairs = [r for r in rows if r["other"]]
    assert {(r["method"], r["other"]) for r in pairs} == {
        ("image_ig", "slope"),
        ("image_ig", "saliency"),
        ("slope", "saliency"),
    }


def test_one_image(table: FaithfulnessTable) -> None:
    one = image_events(20)[[5]]
    alone = compare_maps(image_model(7), one, {"image_ig": {"steps": 8}}, "pt", again=0, steps=6)
    assert np.isnan(alone.numbers["image_ig"]["deletion"].error)
    own, whole = (t.curves["image_ig"][0].outputs for t in (alone, table))
    np.testing.assert_allclose(own[0], whole[5], rtol=1e-5)
    assert alone.agreement is None


def test_a_map_at_hand_is_used() -> None:
    model, events = image_model(7), image_events(8)
    stored = explain(model, events, "saliency", target="pt")
    flipped = stored.replace(values=stored.values[:, ::-1])
    table = compare_maps(model, events, {"mine": flipped}, again=2, baseline="blurred", subsets=())
    assert table.target == "pt"
    assert {"randomised", "seconds"} <= table.numbers["mine"].keys()


def test_what_cannot_be_compared() -> None:
    model, events = image_model(7), image_events(8)
    with pytest.raises(ValueError, match="no methods to compare"):
        compare_maps(model, events, [], "pt")
    with pytest.raises(ValueError, match="a number, an image or 'blurred' is needed"):
        compare_maps(model, events, ["saliency"], "pt", baseline="grey")

    class Graph:
        view = "graph"

    with pytest.raises(CannotExplainError, match="Graph takes the view 'graph'"):
        compare_maps(Graph(), events, ["saliency"], "pt")  # type: ignore[arg-type]
    sums = explain(model, events, "saliency", target="pt").sum("row")
    with pytest.raises(ValueError, match="mine gives no map over pixels"):
        compare_maps(model, events, {"mine": sums})


def test_curves_are_drawn(table: FaithfulnessTable) -> None:
    figure = faithfulness_curves(table)
    left, right = figure.axes
    assert left.get_title() == "deletion"
    assert len(left.lines) == len(right.lines) == len(METHODS) + 1


# --- randomisation -------------------------------------------------------------------------------------


def weights(model: ImageModel) -> list[np.ndarray]:
    return [v.detach().numpy().copy() for v in model.module.state_dict().values()]


def test_the_model_given_stays_as_it_is() -> None:
    model, events = image_model(7), image_events(6)
    before, state = weights(model), torch.random.get_rng_state()
    first, second = (
        cascading_randomisation(model, events, "saliency", target="pt", draws=1, seed=3) for _ in range(2)
    )
    for a, b in zip(before, weights(model), strict=True):
        np.testing.assert_array_equal(a, b)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not any(m._forward_hooks for m in model.module.modules())
    np.testing.assert_array_equal(first.correlation.value, second.correlation.value)
    assert first.layers == ("8", "6", "2", "0")
    assert "4 layers" in repr(first)


def test_each_step_is_the_map_of_a_network_that_forgot() -> None:
    """By hand: the last layers of a copy replaced one after the other."""
    model, events = image_model(7), image_events(6)
    trained = explain(model, events, "saliency", target="pt")
    result = cascading_randomisation(model, events, "saliency", target="pt", draws=1, seed=3)
    forgetful = copy.deepcopy(model)
    torch.manual_seed(3)
    for k, layer in enumerate((8, 6, 2, 0)):
        forgetful.module[layer].reset_parameters()
        made = explain(forgetful, events, "saliency", target="pt")
        expected = hit_rank_agreement(trained, made).mean
        assert result.correlation.value[k] == pytest.approx(float(expected.value))
    last = cascading_randomisation(model, events, "saliency", target="pt", draws=1, seed=3, only_last=True)
    assert last.layers == ("0",)
    assert float(last.last.value) == pytest.approx(float(result.last.value))


def test_the_error_holds_the_spread_over_draws_of_weights() -> None:
    model, events = image_model(7), image_events(6)
    one, many = (
        cascading_randomisation(model, events, "saliency", target="pt", seed=3, draws=n, only_last=True).last
        for n in (1, 4)
    )
    torch.manual_seed(3)
    trained, values = explain(model, events, "saliency", target="pt"), []
    for _ in range(4):
        randomised = copy.deepcopy(model)
        for layer in (8, 6, 2, 0):
            randomised.module[layer].reset_parameters()
        made = explain(randomised, events, "saliency", target="pt")
        values.append(hit_rank_agreement(trained, made).mean)
    numbers, errors = (np.array([getattr(v, n) for v in values]) for n in ("value", "error"))
    assert float(one.value) == pytest.approx(numbers[0])
    assert float(many.value) == pytest.approx(numbers.mean())
    assert float(many.error) == pytest.approx(np.hypot(errors.mean(), numbers.std(ddof=1) / 2))
    with pytest.raises(ValueError, match="draws=0; at least 1"):
        cascading_randomisation(model, events, "saliency", target="pt", draws=0)


class Own(nn.Module):
    """A parameter of its own beside those of its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.net, self.scale = cnn(7), nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x) * self.scale


def test_parameters_of_a_module_of_the_user() -> None:
    events = image_events(4)
    model = ImageModel(Own(), ("pt", "eta"), events.schema)
    assert layers_from_output(model, events) == ("", "net.8", "net.6", "net.2", "net.0")
    result = cascading_randomisation(model, events, "saliency", target="eta")
    assert len(result.correlation.value) == 5


def test_a_model_without_layers_is_refused() -> None:
    events = image_events(4)
    bare = ImageModel(nn.Sequential(nn.Flatten(), nn.AdaptiveAvgPool1d(2)), ("pt", "eta"), events.schema)
    with pytest.raises(CannotExplainError, match="has no `module` with parameters to randomise"):
        cascading_randomisation(bare, events, "saliency", target="pt")


def test_a_method_is_prepared_on_the_reference() -> None:
    model, events = image_model(7), image_events(30)
    muons = events[events.label == 1][:3]
    method = EXPLAINERS["image_gradient_shap"](samples=5)
    trained = method.prepare(model, events, "pt").attribute(muons)
    with pytest.raises(ValueError, match="no event of class"):
        similarity(trained, model, {"samples": 5}, only_last=True)
    assert abs(similarity(trained, model, {"samples": 5}, reference=events, only_last=True).last.value) <= 1
