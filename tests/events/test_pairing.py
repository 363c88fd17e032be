"""Pairs of the same event in two populations."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from toy_events import make_events

from hepxai.events import Events, pair_events


def identified(events: Events, **columns: Any) -> Events:
    """The events, spread over two files."""
    n = len(events)
    identity = {"file": np.arange(n) % 2, "entry": np.arange(n) // 2, "files": ("a.root:t", "b.root:t")}
    return events.replace(**identity | {"file_entries": (n, n)} | columns)


@pytest.mark.parametrize("seed", range(5))
def test_pairs_are_those_of_a_slow_search(seed: int) -> None:
    rng = np.random.default_rng(seed)
    events = identified(make_events(40, seed=seed))
    first, second = (events[rng.permutation(40)[: rng.integers(1, 40)]] for _ in range(2))
    pairs = pair_events(first, second)
    place = [list(zip(e.file.tolist(), e.entry.tolist(), strict=True)) for e in (first, second)]
    expected = [(i, place[1].index(p)) for i, p in enumerate(place[0]) if p in place[1]]
    assert list(zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)) == expected
    assert pairs.only_first.tolist() == [i for i, p in enumerate(place[0]) if p not in place[1]]
    assert pairs.only_second.tolist() == [i for i, p in enumerate(place[1]) if p not in place[0]]
    assert repr(pairs).startswith(f"<EventPairs: {len(expected)} in both, ")


def test_events_pair_with_themselves() -> None:
    events = identified(make_events(9))
    pairs = pair_events(events, events)
    np.testing.assert_array_equal(pairs.first, np.arange(9))
    np.testing.assert_array_equal(pairs.second, np.arange(9))
    assert pairs.only_first.size == pairs.only_second.size == 0


def test_without_common_events_or_any() -> None:
    events = identified(make_events(6))
    pairs = pair_events(events[:2], events[2:])
    assert pairs.first.size == 0
    assert (pairs.only_first.tolist(), pairs.only_second.tolist()) == ([0, 1], [0, 1, 2, 3])
    assert pair_events(events[:0], events).only_second.size == 6


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"files": ("a.root:t", "c.root:t")}, "b.root:t with 6 entries and c.root:t with 6"),
        ({"file_entries": (6, 7)}, "b.root:t with 6 entries and b.root:t with 7"),
        ({"files": ("a.root:t", "b.root:t", "c.root:t"), "file_entries": (6, 6, 6)}, "2 and 3 files"),
    ],
)
def test_other_files_are_refused(columns: dict[str, Any], message: str) -> None:
    events = identified(make_events(6))
    with pytest.raises(ValueError, match=message + "; read both with one data-set card and its variations"):
        pair_events(events, events.replace(**columns))


def test_repeated_events_are_refused() -> None:
    events = identified(make_events(6))
    with pytest.raises(ValueError, match=r"b.root:t: entry 1 is twice in the second events; pair before"):
        pair_events(events, events[[0, 3, 5, 3]])
    drawn = np.array([0, 3, 5, 3])  # the remedy: pair first, then draw pairs
    pairs = pair_events(events, events)
    assert (events[pairs.second[drawn]].entry == events[pairs.first[drawn]].entry).all()
