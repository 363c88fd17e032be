"""Verdicts: every rule on both sides of its threshold, and no bad one that a concern says already."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from hepxai.attribution.means import pair_means
from hepxai.events import Events
from hepxai.report import RunView
from hepxai.report import verdicts as module
from hepxai.report.layer_attributions import maps
from hepxai.report.verdicts import (
    SignedMeans,
    Verdict,
    agreement_verdicts,
    bad_texts,
    event_verdicts,
    sample_verdicts,
    sign_verdicts,
    signed_means,
    stability_verdicts,
    surrogate_verdicts,
    total_of,
    truth_verdicts,
)


def number(value: float | None, error: float = 0.01, **spread: float) -> dict[str, Any]:
    return {"value": value, "error": error, **spread}


def agreement(*values: float | None) -> list[dict[str, Any]]:
    return [{"first": f"a{i}", "second": f"b{i}", **number(v)} for i, v in enumerate(values)]


def only(several: Iterator[Verdict]) -> Verdict:
    (verdict,) = several
    assert verdict.rule in verdict.text
    assert verdict.to_json()["number"] == verdict.number
    return verdict


@pytest.mark.parametrize(
    ("lowest", "start"),
    [
        (0.279, "Methods disagree"),
        (0.281, "It is not resolved whether the methods agree"),
        (0.319, "It is not resolved whether the methods agree"),
        (0.321, "The methods agree"),
    ],
)
def test_agreement(lowest: float, start: str) -> None:
    verdict = only(agreement_verdicts(agreement(0.8, lowest, None)))
    assert verdict.good == (lowest > 0.32)
    assert verdict.number == lowest
    assert f"a1 and b1 {lowest:.3f} ± 0.010" in verdict.sentence
    assert verdict.sentence.startswith(start)


def test_agreement_of_unknown_error() -> None:
    one = agreement(0.9)[0] | {"error": None}
    assert not list(agreement_verdicts([one]))
    assert only(agreement_verdicts([one, *agreement(0.9)])).number == 0.9


def test_a_wide_error_of_the_higher_one_counts() -> None:
    wide = agreement(0.5)[0] | {"first": "c", "error": 0.15}
    verdict = only(agreement_verdicts([*agreement(0.4), wide]))
    assert not verdict.good
    assert "c and b0 0.50 ± 0.15" in verdict.sentence
    assert "a0" not in verdict.sentence


@pytest.mark.parametrize("rows", [[], agreement(None), agreement(float("nan"))])
def test_no_agreement_no_verdict(rows: list[dict[str, Any]]) -> None:
    assert not list(agreement_verdicts(rows))


def signed(method: str, group: str, values: list[float], error: float = 0.1) -> SignedMeans:
    means = {f"mean {i}": (v, error) for i, v in enumerate(values)}
    return SignedMeans(method, f"map of {method}", (group,), means)


@pytest.mark.parametrize(("opposite", "good"), [(1, True), (2, False)])
def test_signs(opposite: int, good: bool) -> None:
    other = [-1.0] * opposite + [1.0] * (10 - opposite)
    maps = [signed("a", "x", [1.0] * 10), signed("b", "x", other), signed("c", "x", [2.0] * 10)]
    verdict = only(sign_verdicts(maps))
    assert verdict.good == good
    assert verdict.number == opposite / 10
    assert f"map of a and map of b have opposite signs in {opposite} of 10" in verdict.sentence
    assert "1.00 ± 0.10 and −1.00 ± 0.10" in verdict.sentence


@pytest.mark.parametrize(
    "maps",
    [
        [signed("a", "x", [1.0])],
        [signed("a", "x", [1.0] * 4), signed("b", "x", [1.0] * 4)],  # too few means to agree
        [signed("a", "x", [1.0], np.nan), signed("b", "x", [-1.0])],  # of a single event
        [signed("a", "x", [1.0]), signed("b", "y", [-1.0])],  # other entries
        [signed("a", "x", [1.0]), signed("a", "x", [-1.0])],  # two layers of one method
        [signed("a", "x", [1.0]), signed("b", "x", [-0.29])],  # below three errors
        [signed("a", "x", [1.0]), signed("b", "x", [np.nan])],
    ],
)
def test_signs_that_do_not_compare(maps: list[SignedMeans]) -> None:
    assert not list(sign_verdicts(maps))


def test_signs_of_five_means_agree() -> None:
    assert only(sign_verdicts([signed("a", "x", [1.0] * 5), signed("b", "x", [1.0] * 5)])).good


def test_sign_of_three_errors_counts() -> None:
    assert not only(sign_verdicts([signed("a", "x", [1.0]), signed("b", "x", [-0.31])])).good


@pytest.mark.parametrize(("agreement", "good"), [(0.81, False), (0.82, True)])
def test_surrogate_against_a_constant(agreement: float, good: bool) -> None:
    figures = {"agreement": number(agreement, 0.015), "constant_agreement": number(0.8)}
    verdict = only(surrogate_verdicts("surrogate IG", figures))
    assert verdict.good == good
    assert verdict.number == pytest.approx(agreement - 0.8)
    assert "(80.0 ± 1.0) %" in verdict.sentence


@pytest.mark.parametrize(("correlation", "good"), [(0.19, False), (0.2, True)])
def test_edges_of_a_surrogate(correlation: float, good: bool) -> None:
    verdict = only(surrogate_verdicts("surrogate IG", {"map_agreement": number(correlation)}))
    assert (verdict.good, verdict.number) == (good, correlation)


def test_a_concern_says_it_already() -> None:
    figures = {"agreement": number(0.8), "constant_agreement": number(0.8), "map_agreement": number(0.9)}
    for warned, texts in ((False, 1), (True, 0)):
        found = list(surrogate_verdicts("surrogate IG", figures, warned=warned))
        assert [v.good for v in found] == [False, True]
        assert len(bad_texts(found)) == texts


def test_unknown_fidelity() -> None:
    figures = {"agreement": number(None), "constant_agreement": number(0.8), "map_agreement": number(None)}
    assert not list(surrogate_verdicts("surrogate IG", figures))


def truth_row(method: str, auroc: dict[str, Any], by_type: float = 0.8, **more: Any) -> dict[str, Any]:
    return {
        "truth": "fromA",
        "method": method,
        "auroc": auroc,
        "by_type": number(by_type, 0.0),
        "gain": auroc | {"value": auroc["value"] - by_type},
        "within_types": number(np.nan),
        "null": number(np.nan),
    } | more


@pytest.mark.parametrize(
    ("auroc", "good"),
    [
        (number(0.822), False),  # the best of two needs 2.28 errors
        (number(0.823), True),
        (number(0.823, training=0.01), False),  # what varies counts
        (number(0.86, training=0.02), True),
        (number(0.9, np.nan), False),
    ],
)
def test_truth(auroc: dict[str, Any], good: bool) -> None:
    verdict = only(truth_verdicts([truth_row("edge IG", auroc), truth_row("attention", number(0.6))]))
    assert verdict.good == good
    assert verdict.number == pytest.approx(auroc["value"] - 0.8)
    assert "by edge IG, AUROC" in verdict.sentence
    assert ("not by attention" in verdict.sentence) == good
    assert "equal types" not in verdict.sentence


@pytest.mark.parametrize(("maps", "least"), [(1, 2.0), (2, 2.28), (20, 3.05)])
def test_the_best_of_many_maps_needs_more_errors(maps: int, least: float) -> None:
    """As likely by chance as a single one: the quantiles of 0.02275 / maps."""
    for errors, good in ((least - 0.01, False), (least + 0.01, True)):
        rows = [truth_row("edge IG", number(0.8 + 0.01 * errors))]
        rows += [truth_row(f"map {i}", number(0.7)) for i in range(maps - 1)]
        assert only(truth_verdicts(rows)).good == good


@pytest.mark.parametrize(("within", "good"), [(0.519, False), (0.521, True)])
def test_entries_of_equal_types_decide_where_there_are_some(within: float, good: bool) -> None:
    """Neither a gain over the map of the types nor a loss matters, nor the error of another distribution."""
    for auroc in (0.2, 0.9):
        row = truth_row("edge IG", number(auroc), within_types=number(within, 0.3), null=number(0.5))
        verdict = only(truth_verdicts([row]))
        assert verdict.good == good
        assert verdict.number == pytest.approx(within - 0.5)
    assert not only(truth_verdicts([row | {"within_types": number(within, 0.3, training=0.02)}])).good


def test_a_map_of_the_types_finds_no_more(make_population: Callable[..., Events]) -> None:
    """Constant within equal types, so that the null distribution has no width."""
    row = truth_row("edge IG", number(0.9), within_types=number(0.5 + 1e-16, 0.0), null=number(0.5, 0.0))
    assert not only(truth_verdicts([row])).good


def test_truth_that_the_types_tell() -> None:
    equal = {"within_types": number(0.7), "null": number(0.5)}
    rows = [
        truth_row("edge IG", number(0.9), 1.0),
        truth_row("edge IG", number(0.9), 0.8, truth="b", **equal),
    ]
    one, two = truth_verdicts(rows)
    assert (one.good, two.good) == (False, True)
    assert "cannot judge a map" in one.sentence
    assert "AUROC 0.700 ± 0.010 among entries of equal types, by chance 0.500" in two.sentence


@pytest.mark.parametrize(
    ("varies", "start"), [(1, "Stable"), (2, "Partly stable"), (5, "Partly stable"), (6, "Unstable")]
)
def test_stability(varies: int, start: str) -> None:
    words = ["varies"] * varies + ["stable"] * (10 - varies) + ["unresolved"] * 7
    numbers = {"edge IG": [{"verdict": w} for w in words], "attention": [{"verdict": "stable"}]}
    verdict = only(stability_verdicts(numbers))
    assert (verdict.good, verdict.number) == (varies == 1, varies / 10)
    assert verdict.sentence.startswith(f"{start} over trainings")
    assert f"{varies} of 10 resolved means of edge IG vary" in verdict.sentence


@pytest.mark.parametrize("numbers", [{}, {"edge IG": []}])
def test_no_means(numbers: dict[str, Any]) -> None:
    assert not list(stability_verdicts(numbers))


def test_no_resolved_means() -> None:
    verdict = only(stability_verdicts({"edge IG": [{"verdict": "unresolved"}] * 3, "attention": []}))
    assert not verdict.good
    assert "none of 3 means" in verdict.sentence


@pytest.mark.parametrize(("part", "good"), [(0.79, True), (0.81, False)])
def test_a_sample_that_dominates(make_population: Callable[..., Events], part: float, good: bool) -> None:
    events = make_population(400)
    label, file = np.arange(400) % 2, np.where(np.arange(400) % 2 == 1, 2, np.arange(400) // 200)
    weight = np.where(file == 0, part, 1 - part) * np.where(np.arange(400) % 10 < 2, -1, 1)
    files = {"files": ("a:E", "b:E", "c:E"), "file_entries": (400,) * 3, "samples": ("dy", "tt", "sig")}
    events = events.replace(label=label, file=file, weight=weight, **files)
    verdict = only(sample_verdicts(events))
    assert verdict.good == good
    assert verdict.number == pytest.approx(part)
    assert "background" in verdict.sentence.lower()
    assert "dy has" in verdict.sentence
    assert not list(sample_verdicts(events.replace(samples=())))


@pytest.mark.parametrize(("size", "good"), [(99, False), (100, True)])
def test_explained_events(make_population: Callable[..., Events], size: int, good: bool) -> None:
    label = (np.arange(300) < size).astype(np.int64)
    verdict = only(event_verdicts(make_population(300).replace(label=label, weight=np.ones(300))))
    assert verdict.good == good
    assert verdict.number == pytest.approx(size)
    assert f"{size} of signal" in verdict.sentence


def test_weights_reduce_the_number_of_events(make_population: Callable[..., Events]) -> None:
    """A tenth of negative weights leaves 64 % of the events."""
    label, weight = np.arange(300) % 2, np.where(np.arange(300) % 20 < 2, -1.0, 1.0)
    verdict = only(event_verdicts(make_population(300).replace(label=label, weight=weight)))
    assert verdict.number == pytest.approx(150 * 0.8**2)


def test_errors_in_quadrature() -> None:
    assert total_of(number(1.0, 3.0, training=4.0)) == pytest.approx(5)
    assert total_of({"value": 1.0, "error": 2.0, "training": None, "syst": 1.5}) == pytest.approx(2.5)
    assert np.isnan(total_of(number(1.0, np.nan, training=4.0)))  # a single event


# --- of a whole run ----------------------------------------------------------------------------------


def test_opposite_maps_of_a_run(finished_view: Callable[..., RunView]) -> None:
    explained = finished_view(400).explained
    edges = explained["edge_ig"].replace(values=explained["edge_ig"].values + 0.05)
    flipped = edges.replace(values=-edges.values, method="other", short_title="other")
    view = finished_view(
        400, explained={"edge_ig": edges, "other": flipped, "attention": explained["attention"]}
    )
    numbers = {one.key: {"type_pairs": pair_means(one.every).rows()} for one in maps(view, "pair")}
    assert [m.name for m in signed_means(view, numbers)] == ["edge IG", "other"]
    found = {v.about: v for v in module.verdicts(view, numbers)}
    assert found["signs"].number == 1
    assert "edge IG and other" in found["signs"].sentence
    assert not found["signs"].good


def test_layers_of_one_method_are_not_two_methods(finished_view: Callable[..., RunView]) -> None:
    explained = finished_view(200).explained
    attention = explained["attention"]
    two = attention.replace(
        values=np.concatenate([attention.values, 1 - attention.values], axis=1),
        labels={**attention.labels, "layer": ("transformer 1", "transformer 2")},
    )
    view = finished_view(200, explained={"attention": two})
    rows = [{"first": "attention, transformer 1", "second": "attention, transformer 2", **number(-0.9)}]
    assert {r["first"] for r in rows} < {layer.short for layer in maps(view)}
    assert "agreement" not in {v.about for v in module.verdicts(view, {"agreement": rows})}
    other = [rows[0] | {"second": "edge IG"}]
    assert "agreement" in {v.about for v in module.verdicts(view, {"agreement": other})}


def test_a_run_without_results_has_no_verdicts(finished_view: Callable[..., RunView]) -> None:
    view = finished_view(60, explained={}, history=[], metrics={})
    assert not module.verdicts(view, {})
