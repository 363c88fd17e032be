"""Targets are linear combinations of the outputs."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import log_softmax

from hepxai.models.target import Target

NAMES = ("ttbar", "ttz", "tt-like", "signal")
Z = np.random.default_rng(0).normal(size=(20, 4))


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("ttz", Z[:, 1]),
        ("signal-ttbar", Z[:, 3] - Z[:, 0]),
        ("tt-like - ttz", Z[:, 2] - Z[:, 1]),
        ("signal-tt-like", Z[:, 3] - Z[:, 2]),
        ("signal-rest", Z[:, 3] - Z[:, :3].mean(axis=1)),
        ("tt-like-rest", Z[:, 2] - Z[:, [0, 1, 3]].mean(axis=1)),
    ],
)
def test_values(name: str, expected: np.ndarray) -> None:
    target = Target.of(NAMES, name)
    np.testing.assert_allclose(target(Z), expected, atol=1e-14)
    np.testing.assert_allclose(target(torch.as_tensor(Z)).numpy(), expected, atol=1e-14)


@pytest.mark.parametrize("name", ["signal-ttbar", "signal-rest", "ttbar-rest"])
def test_contrasts_ignore_what_all_logits_share(name: str) -> None:
    target = Target.of(NAMES, name)
    assert sum(target.weights) == pytest.approx(0, abs=1e-15)
    np.testing.assert_allclose(target(Z + 7 * Z[:, :1] ** 2), target(Z), atol=1e-13)
    np.testing.assert_allclose(target(log_softmax(Z, axis=1)), target(Z), atol=1e-13)


def test_rest_of_two_is_the_other() -> None:
    assert Target.of(("a", "b"), "b-rest") == Target.of(("a", "b"), "b-a")


def test_output_that_is_not_in_the_target_may_be_infinite() -> None:
    z = Z.copy()
    z[:, 2] = np.inf
    np.testing.assert_array_equal(Target.of(NAMES, "signal-ttbar")(z), Z[:, 3] - Z[:, 0])


@pytest.mark.parametrize(
    ("names", "target", "message"),
    [
        (NAMES, "signal-muon", "or a difference such as 'signal-ttbar' or 'signal-rest'"),
        (NAMES, "rest", "choose one of ttbar"),
        (NAMES, "signal-signal", "choose one of ttbar"),
        (("signal",), "signal-rest", "the only one is signal"),
        (("rest", "a", "b"), "a-rest", "give it another name"),
    ],
)
def test_unknown_targets(names: tuple[str, ...], target: str, message: str) -> None:
    with pytest.raises(KeyError, match=message):
        Target.of(names, target)


def test_output_named_rest_after_the_remedy() -> None:
    assert Target.of(("others", "a", "b"), "a-others").weights == (-1, 1, 0)
