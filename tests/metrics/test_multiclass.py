"""Figures of merit of K classes: scikit-learn, double loops, toys; and two classes as before."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable
from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import log_softmax, logit, softmax
from sklearn.metrics import accuracy_score, balanced_accuracy_score, roc_auc_score
from sklearn.metrics import confusion_matrix as reference_matrix

from hepxai.events import Events
from hepxai.metrics import (
    class_log_odds,
    class_logits,
    classification_metrics,
    confusion_matrix,
    mean_auc,
    multiclass,
)
from hepxai.metrics.classification import placements

Array = NDArray[np.float64]
NAMES = ("ttbar", "ttz", "wz", "signal")


def logits_of(label: NDArray[np.int64], classes: int, seed: int) -> Array:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(len(label), classes)) + 1.2 * np.eye(classes)[label]


def population(toy: Callable[..., Events], n: int, classes: int, *, signed: bool = False) -> Events:
    rng, events = np.random.default_rng(classes), toy(n)
    weight = rng.uniform(0.5, 1.5, n) * (rng.choice([1, -1], n, p=[0.85, 0.15]) if signed else 1)
    schema = dataclasses.replace(events.schema, classes=NAMES[-classes:])
    return events.replace(
        schema=schema,
        label=rng.integers(0, classes, n),
        weight=weight,
        split=rng.integers(0, 3, n).astype(np.int8),
    )


@pytest.mark.parametrize("classes", [3, 4])
def test_all_figures_against_scikit_learn(toy: Callable[..., Events], classes: int) -> None:
    events = population(toy, 900, classes)
    z = logits_of(events.label, classes, 1)
    figures = classification_metrics(z, events)
    assert list(figures) == ["train", "valid", "test"]
    rows = events.split == 2
    label, weight, p, names = (
        events.label[rows],
        events.weight[rows],
        softmax(z[rows], axis=1),
        NAMES[-classes:],
    )
    row, expected = figures["test"], {}
    expected["accuracy"] = accuracy_score(label, p.argmax(1), sample_weight=weight)
    expected["balanced_accuracy"] = balanced_accuracy_score(label, p.argmax(1), sample_weight=weight)
    for k, name in enumerate(names):
        expected[f"auc_{name}_vs_rest"] = roc_auc_score(label == k, p[:, k], sample_weight=weight)
    expected["mean_auc"] = roc_auc_score(np.eye(classes)[label], p, sample_weight=weight, average="macro")
    for i in range(classes):
        for j in range(i):
            two, ratio = np.isin(label, [i, j]), p[:, i] / p[:, j]
            area = roc_auc_score(label[two] == i, ratio[two], sample_weight=weight[two])
            expected[f"auc_{names[i]}_vs_{names[j]}"] = area
    assert row.keys() == expected.keys()
    for name, value in expected.items():
        assert float(row[name].value) == pytest.approx(value, abs=1e-12), name
        assert 0 < row[name].error < 0.1
    matrix = confusion_matrix(z[rows], label, weight)
    reference = reference_matrix(label, p.argmax(1), sample_weight=weight, normalize="true")
    np.testing.assert_allclose(matrix.value, reference, atol=1e-12)
    assert row["balanced_accuracy"].value == pytest.approx(np.trace(matrix.value) / classes)


def test_signed_weights_by_double_loops(toy: Callable[..., Events]) -> None:
    events = population(toy, 240, 3, signed=True)
    z = logits_of(events.label, 3, 2)
    row, rows = classification_metrics(z, events)["train"], np.flatnonzero(events.split == 0)
    score = logit(softmax(z, axis=1))
    right = total = 0.0
    for s in rows[events.label[rows] == 2]:
        for b in rows[events.label[rows] != 2]:
            w = events.weight[s] * events.weight[b]
            total, right = total + w, right + w * (score[s, 2] > score[b, 2])
    assert float(row["auc_signal_vs_rest"].value) == pytest.approx(right / total)
    matrix = np.zeros((3, 3))
    for e in rows:
        matrix[events.label[e], z[e].argmax()] += events.weight[e]
    matrix /= matrix.sum(axis=1, keepdims=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        estimate = confusion_matrix(z[rows], events.label[rows], events.weight[rows])
    np.testing.assert_allclose(estimate.value, matrix, atol=1e-12)


def test_errors_are_the_spread_of_toys() -> None:
    rng, matrices, errors = np.random.default_rng(3), [], []
    for _ in range(400):
        label, weight = rng.integers(0, 3, 300), rng.exponential(1.0, 300)
        estimate = confusion_matrix(rng.normal(size=(300, 3)) + np.eye(3)[label], label, weight)
        matrices.append(estimate.value)
        errors.append(estimate.error)
    np.testing.assert_allclose(np.mean(errors, axis=0), np.std(matrices, axis=0), rtol=0.12)


def test_error_of_the_mean_auc_is_the_spread_of_toys() -> None:
    """Smaller than that of three independent curves would be, or larger: their events are the same."""
    rng, values, errors = np.random.default_rng(4), [], []
    for _ in range(300):
        label, weight = rng.integers(0, 3, 300), rng.exponential(1.0, 300)
        estimate = mean_auc(rng.normal(size=(300, 3)) + np.eye(3)[label], label, weight)
        assert estimate is not None
        values.append(estimate.value)
        errors.append(estimate.error)
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.12)


def test_figures_do_not_depend_on_what_all_logits_share(toy: Callable[..., Events]) -> None:
    events = population(toy, 300, 3)
    z = logits_of(events.label, 3, 4)
    shifted = z + 5 * np.sin(40 * z[:, :1])
    np.testing.assert_allclose(class_log_odds(z), class_log_odds(shifted), atol=1e-12)
    one, other = (classification_metrics(scores, events)["test"] for scores in (z, shifted))
    assert all(float(one[name].value) == pytest.approx(float(other[name].value)) for name in one)


def test_order_of_classes_is_a_permutation_of_figures(toy: Callable[..., Events]) -> None:
    events = population(toy, 300, 3)
    z, names = logits_of(events.label, 3, 5), events.schema.classes
    figures = classification_metrics(z, events)["test"]
    for order in permutations(range(3)):
        schema = dataclasses.replace(events.schema, classes=tuple(names[i] for i in order))
        other = events.replace(schema=schema, label=np.argsort(order)[events.label])
        row = classification_metrics(z[:, order], other)["test"]
        for name in names:
            key = f"auc_{name}_vs_rest"
            assert float(row[key].value) == pytest.approx(float(figures[key].value))


@pytest.mark.filterwarnings("error")
def test_log_odds_of_confident_logits() -> None:
    z = np.array([[800.0, 0.0, -800.0], [1.0, 2.0, 3.0]])
    odds = class_log_odds(z)
    np.testing.assert_allclose(odds[0], [800, -800, -1600])
    np.testing.assert_allclose(odds[1], logit(np.exp(log_softmax(z[1]))))


def test_missing_class(toy: Callable[..., Events]) -> None:
    events = population(toy, 300, 3)
    missing = events.replace(label=np.where((events.split == 2) & (events.label == 1), 0, events.label))
    z = logits_of(missing.label, 3, 6)
    with pytest.warns(UserWarning, match="the test split has no events of wz, or their weights"):
        figures = classification_metrics(z, missing)
    assert list(figures["test"]) == ["accuracy", "auc_ttz_vs_rest", "auc_signal_vs_rest", "auc_signal_vs_ttz"]
    assert "balanced_accuracy" in figures["train"]
    rows = missing.split == 2
    matrix = confusion_matrix(z[rows], missing.label[rows], missing.weight[rows])
    assert np.isnan(matrix.value[1]).all()
    np.testing.assert_allclose(matrix.value[[0, 2]].sum(axis=1), 1)


def test_two_classes_with_one_logit_or_two(toy: Callable[..., Events]) -> None:
    events = toy(200)
    z = np.random.default_rng(0).normal(size=200)
    one, column = classification_metrics(z, events), classification_metrics(z[:, None], events)
    two = classification_metrics(np.stack([-z / 2, z / 2], axis=1), events)
    assert one == column == two
    rows = events.split == 2
    matrix = confusion_matrix(z[rows], events.label[rows], events.weight[rows])
    mean = np.trace(matrix.value) / 2
    assert float(one["test"]["balanced_accuracy"].value) == pytest.approx(mean)


def test_wrong_logits_are_refused(toy: Callable[..., Events]) -> None:
    events = population(toy, 100, 3)
    z = logits_of(events.label, 3, 7)
    with pytest.raises(
        ValueError, match="2 logits for the classes ttz, wz, signal; expected one logit per class"
    ):
        classification_metrics(z[:, :2], events)
    with pytest.raises(ValueError, match="1 logits"):
        classification_metrics(z[:, 0], events)
    with pytest.raises(ValueError, match="values of logits are NaN"):
        classification_metrics(np.where(z > 2.5, np.nan, z), events)
    assert classification_metrics(z, events)


def test_curves_are_made_once(toy: Callable[..., Events], monkeypatch: pytest.MonkeyPatch) -> None:
    events, calls = population(toy, 300, 3), []
    monkeypatch.setattr(multiclass, "placements", lambda *a: calls.append(a) or placements(*a))
    classification_metrics(logits_of(events.label, 3, 1), events.replace(split=np.zeros(300, dtype=np.int8)))
    assert len(calls) == 3


def test_no_events() -> None:
    assert class_logits(np.zeros((0, 3))).shape == (0, 3)
    assert class_logits(np.zeros(0)).shape == (0, 2)
