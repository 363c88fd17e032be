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


@pytest.mark.parametrize(("lowest", "good"), [(0.29, False), (0.3, True)])
def test_agreement(lowest: float, good: bool) -> None:
    verdict = only(agreement_verdicts(agreement(0.8, lowest, None)))
    assert verdict.good == good
    assert verdict.number == lowest
    assert f"a1 and b1 {lowest:.3f} ± 0.010" in verdict.sentence
    assert verdict.sentence.startswith("The methods agree" if good else "Methods disagree")


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
        [signed("a", "x", [1.0]), signed("b", "y", [-1.0])],  # other entries
        [signed("a", "x", [1.0]), signed("a", "x", [-1.0])],  # two layers of one method
        [signed("a", "x", [1.0]), signed("b", "x", [-0.29])],  # below three errors
        [signed("a", "x", [1.0]), signed("b", "x", [np.nan])],
    ],
)
def test_signs_that_do_not_compare(maps: list[SignedMeans]) -> None:
    assert not list(sign_verdicts(maps))


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
        "within_types": number(np.nan),
        "null": number(np.nan),
    } | more


@pytest.mark.parametrize(
    ("auroc", "good"),
    [
        (number(0.819), False),
        (number(0.821), True),
        (number(0.821, training=0.01), False),  # what varies counts
        (number(0.85, training=0.02), True),
    ],
)
def test_truth(auroc: dict[str, Any], good: bool) -> None:
    verdict = only(truth_verdicts([truth_row("edge IG", auroc), truth_row("attention", number(0.6))]))
    assert verdict.good == good
    assert verdict.number == pytest.approx(auroc["value"] - 0.8)
    assert "by edge IG, AUROC" in verdict.sentence
    assert ("not by attention" in verdict.sentence) == good
    assert "equal types" not in verdict.sentence


def test_truth_that_the_types_tell() -> None:
    equal = {"within_types": number(0.7), "null": number(0.5)}
    rows = [
        truth_row("edge IG", number(0.9), 1.0),
        truth_row("edge IG", number(0.9), 0.8, truth="b", **equal),
    ]
    one, two = truth_verdicts(rows)
    assert (one.good, two.good) == (False, True)
    assert "cannot judge a map" in one.sentence
    assert "equal types 0.700 ± 0.010, by chance 0.500" in two.sentence


@pytest.mark.parametrize(("varies", "good"), [(5, True), (6, False)])
def test_stability(varies: int, good: bool) -> None:
    words = ["varies"] * varies + ["stable"] * (10 - varies) + ["unresolved"] * 7
    numbers = {"edge IG": [{"verdict": w} for w in words], "attention": [{"verdict": "stable"}]}
    verdict = only(stability_verdicts(numbers))
    assert (verdict.good, verdict.number) == (good, varies / 10)
    assert f"{varies} of 10 resolved means of edge IG vary" in verdict.sentence


@pytest.mark.parametrize("numbers", [{}, {"edge IG": []}, {"edge IG": [{"verdict": "unresolved"}]}])
def test_no_resolved_means(numbers: dict[str, Any]) -> None:
    assert not list(stability_verdicts(numbers))


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


def test_a_run_without_results_has_no_verdicts(finished_view: Callable[..., RunView]) -> None:
    view = finished_view(60, explained={}, history=[], metrics={})
    assert not module.verdicts(view, {})
