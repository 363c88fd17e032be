"""Splits: the same for ever, in the right shares, and k folds that cover everything once."""

from __future__ import annotations

import numpy as np
import pytest
from slow_reader import split_of, splitmix

from hepxai.events.splits import Split, assign_split, event_hash, splitmix64, text_hash

N = 20_000
NUMBERS = (np.full(N, 316_000), np.arange(N) // 100, np.arange(N))


def test_splitmix64_is_the_published_one() -> None:
    # First outputs of the reference generator with state 0 (its state advances by the same constant).
    state = np.array([0, 0x9E3779B97F4A7C15], dtype=np.uint64)
    assert [hex(v) for v in splitmix64(state)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    assert splitmix64(np.array([12345], dtype=np.uint64))[0] == splitmix(12345)


def test_never_changes() -> None:
    split = assign_split(Split(), *NUMBERS)
    assert split[:20].tolist() == [split_of(0, 316_000, i // 100, i) for i in range(20)]
    assert text_hash("a.root:Events") == 1208632929182780773


def test_shares() -> None:
    counts = np.bincount(assign_split(Split(train=6, valid=3, test=1), *NUMBERS))
    np.testing.assert_allclose(counts / N, [0.6, 0.3, 0.1], atol=0.01)
    assert np.bincount(assign_split(Split(train=1, valid=0, test=0), *NUMBERS)).tolist() == [N]


def test_depends_on_nothing_but_numbers_and_seed() -> None:
    split = assign_split(Split(), *NUMBERS)
    backwards = assign_split(Split(), *(n[::-1] for n in NUMBERS))
    assert (backwards[::-1] == split).all()
    assert (assign_split(Split(seed=1), *NUMBERS) != split).any()
    assert len(set(event_hash(*NUMBERS).tolist())) == N


@pytest.mark.parametrize("k", [2, 5])
def test_folds_are_disjoint_and_cover(k: int) -> None:
    splits = [assign_split(Split(folds=k, fold=i, train=3, valid=1), *NUMBERS) for i in range(k)]
    assert (sum((s == 2).astype(int) for s in splits) == 1).all()
    for split in splits:
        train, valid, test = np.bincount(split) / N
        assert test == pytest.approx(1 / k, abs=0.02)
        assert train / valid == pytest.approx(3, rel=0.1)
