"""The page, its figures and its tables, from stored results alone."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest

import hepxai.scan.sampling
from hepxai.scan import Scan, advice, write_scan
from hepxai.scan.advice import format_probability

Invented = Callable[..., Scan]
DROPOUT = ["edge_dropout=0.05,0.15,0.25,0.4"]
BOTH = ["valid_auc", "pair_attention"]


def said(scan: Scan) -> str:
    return " ".join(s for part in advice(scan.table(), scan.dataset).values() for s in part)


def files(scan: Scan) -> set[str]:
    return {p.stem for p in (scan.folder / "figures").glob("*.png")}


@pytest.fixture(autouse=True, scope="module")
def quick() -> Iterator[None]:
    """Fewer bootstrap samples of the importance."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(hepxai.scan.sampling, "REPEATS", 2)
        yield


@pytest.fixture(scope="module")
def written(invented: Invented) -> Scan:
    scan = invented(DROPOUT, seeds=3, objectives=BOTH)
    write_scan(scan)
    return scan


def test_one_page_that_needs_nothing_else(written: Scan) -> None:
    page = (written.folder / "scan.html").read_text(encoding="utf-8")
    assert files(written) == {
        "against_edge_dropout",
        "attention_edge_dropout",
        "distance_against_gap",
        "pareto_valid_auc_pair_attention",
    }
    assert page.count("data:image/svg+xml,") == 4
    assert "http" not in page.replace("http://www.w3.org", "").replace("http-equiv", "")
    assert "charged_higgs: scan of edge_dropout" in page
    assert "test figures are shown and never chosen by" in page.lower()


def test_tables_hold_every_number_with_its_errors(written: Scan) -> None:
    table = written.table()
    with (written.folder / "table.csv").open() as opened:
        points = list(csv.DictReader(opened))
    assert [float(p["edge_dropout"]) for p in points] == [0.05, 0.15, 0.25, 0.4]
    values = [t.metrics["valid_auc"].value for t in table.trials[:3]]
    assert float(points[0]["valid_auc"]) == pytest.approx(np.mean(values))
    assert float(points[0]["valid_auc_error"]) == pytest.approx(np.std(values, ddof=1) / np.sqrt(3))
    assert float(points[0]["valid_auc_statistical"]) == pytest.approx(0.004)
    with (written.folder / "trials.csv").open() as opened:
        trials = list(csv.DictReader(opened))
    assert len(trials) == 12
    assert {"seed", "state", "seconds", "events_explained", "test_auc_error"} <= trials[0].keys()
    stored = json.loads((written.folder / "table.json").read_text())
    assert stored["settings"]["seeds"] == 3
    assert stored["rankings"][0]["degrees_of_freedom"] == 6
    assert stored["pareto_front"]
    assert not list(written.folder.rglob("*.part"))


def test_drawing_again_gives_the_same_files(written: Scan) -> None:
    names = ["scan.html", "table.csv", "table.json", "figures/against_edge_dropout.png"]
    before = [(written.folder / n).read_bytes() for n in names]
    write_scan(written)
    assert [(written.folder / n).read_bytes() for n in names] == before


def test_the_recommendation_says_how_sure_it_is(invented: Invented) -> None:
    text = said(invented(DROPOUT, seeds=3, objectives=["pair_attention"]))
    assert "at edge_dropout=0.25, the highest of 4 (mean of 3 seeds)" in text
    assert "Probability that it is the best of all, given the seeds: > 99.9 %" in text
    assert "On the test events, which had no part in the choice: test AUC 0.8" in text


def test_the_direction_can_be_turned_round(invented: Invented) -> None:
    assert "at edge_dropout=0.05, the lowest of 4" in said(
        invented(DROPOUT, seeds=2, objectives=["pair_attention:min"])
    )


def test_one_seed_is_said_to_say_nothing(invented: Invented) -> None:
    scan = invented(DROPOUT, seeds=1)
    text = said(scan)
    assert "± 0.0040 (events) at" in text
    assert "(one seed, its scatter is unknown)" in text
    assert "scan with 3 seeds or more" in text
    assert "Probability" not in text


def test_few_seeds_are_said_to_be_few(invented: Invented) -> None:
    assert "from 2 degrees of freedom only" in said(invented(["edge_dropout=0.1,0.3"], seeds=3))


@pytest.mark.usefixtures("undrawn")
def test_two_seeds_give_no_verdict(invented: Invented) -> None:
    scan = invented(["edge_dropout=0.1,0.3"], seeds=2)
    text = said(scan)
    assert "Two seeds say too little of the scatter to call one point better; scan with 3 or more." in text
    assert "better with" not in text
    assert "better than" not in text
    assert "Probability" not in text
    page = write_scan(scan).read_text(encoding="utf-8")
    assert "%</td>" not in page[page.index('id="best"') : page.index('id="results"')]


def test_two_seeds_that_agree_by_chance_do_not_make_the_error_small(invented: Invented) -> None:
    """As in a real scan: two seeds within 3e-5, where the events allow 0.004."""
    scan = invented(["edge_dropout=0.1,0.3"], seeds=2)
    table = scan.table()
    for trial, value in zip(table.trials, (0.712769, 0.712799, 0.70, 0.71), strict=True):
        auc = trial.metrics["valid_auc"]
        trial.metrics["valid_auc"] = replace(auc, value=np.asarray(value))  # type: ignore[index]
    text = " ".join(s for part in advice(table, scan.dataset).values() for s in part)
    assert "0.7128 ± <0.0001 (seeds) ± 0.0040 (events) at edge_dropout=0.1" in text


@pytest.mark.slow
def test_importance_needs_several_entries_and_trainings(invented: Invented) -> None:
    over = ["edge_dropout=0.1,0.3", "training.learning_rate=1e-3,1e-2"]
    few, many = invented(over, seeds=1), invented(over, seeds=2)
    for scan in (few, many):
        write_scan(scan)
    assert not {"parallel", "importance_valid_auc"} & files(few)
    assert {"parallel", "importance_valid_auc"} <= files(many)


@pytest.mark.parametrize(
    ("probability", "text"),
    [
        (0.946, "94.6 %"),
        (0.9497, "94.97 %"),
        (0.95, "95 %"),
        (0.9549, "95 %"),
        (0.94, "94 %"),
        (0.9499999, "< 95 %"),
    ],
)
def test_rounding_never_contradicts_the_verdict(probability: float, text: str) -> None:
    found = format_probability(probability)
    assert found == text
    if not found.startswith("<"):
        assert (float(found.partition(" ")[0]) >= 95) == (probability >= 0.95)


def test_values_that_are_not_told_apart_are_named(invented: Invented) -> None:
    text = said(invented(["edge_dropout=0.19,0.2,0.21"], seeds=3))
    assert "It is indistinguishable (better with less than 95 %) from: edge_dropout=" in text


@pytest.mark.usefixtures("undrawn")
def test_a_scan_under_way_can_be_looked_at(invented: Invented) -> None:
    empty = invented(DROPOUT, seeds=2, finished=0)
    write_scan(empty)
    assert "No point is complete yet." in said(empty)
    assert "8 of 8 trials are not finished" in said(empty)


@pytest.mark.usefixtures("undrawn")
def test_part_of_a_scan(invented: Invented) -> None:
    """Two values whole, the third with one seed of two: it is shown, but is no candidate."""
    part = invented(DROPOUT, seeds=2, finished=5)
    write_scan(part)
    assert "the highest of 2" in said(part)
    assert "3 of 8 trials are not finished" in said(part)
    assert len(part.table().points) == 3
    assert len(part.table().candidates) == 2


@pytest.mark.slow
def test_several_entries_of_all_kinds(invented: Invented) -> None:
    over = {
        "edge_dropout": "0.05..0.4",
        "training.learning_rate": "1e-4..1e-2:log",
        "dense": [[64], [64, 64], [8]],
        "training.class_balance": [True, False],
    }
    objectives = [*BOTH, "score_mass_correlation"]
    scan = invented(over, seeds=2, sampler="tpe", trials=6, objectives=objectives)
    write_scan(scan)
    assert {
        "against_dense",
        "against_training_class_balance",
        "attention_training_learning_rate",
        "pareto_pair_attention_score_mass_correlation",
    } <= files(scan)
    page = (scan.folder / "scan.html").read_text(encoding="utf-8")
    assert "#6 edge_dropout=" in page


@pytest.mark.usefixtures("undrawn")
def test_names_of_a_user_are_never_markup(invented: Invented) -> None:
    scan = invented(["training.monitor=auc,loss"], seeds=2)
    hostile = scan.dataset.model_copy(update={"name": "<script>alert(1)</script>"})
    page = write_scan(Scan(scan.folder, hostile, scan.card, scan.plan)).read_text(encoding="utf-8")
    assert page.count("<script>") == 1  # its own
    assert "<script>alert" not in page
