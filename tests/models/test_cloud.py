"""Index arithmetic of particle clouds."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from plain_pyg import RAGGED, complete, make_cloud
from torch_geometric.data import Batch, Data

from hepxai.events import Events
from hepxai.models.graph.cloud import Cloud

EVENTS = (RAGGED, (4, 4, 4), (1,), (0, 0), ())


@pytest.mark.parametrize("counts", EVENTS)
def test_layout_against_loops(counts: tuple[int, ...]) -> None:
    cloud = make_cloud(counts)
    ends = list(zip(cloud.ptr[:-1].tolist(), cloud.ptr[1:].tolist(), strict=True))
    assert len(cloud) == len(counts)
    assert cloud.counts.tolist() == list(counts)
    assert cloud.longest == max([*counts, 1])
    assert cloud.batch.tolist() == [e for e, n in enumerate(counts) for _ in range(n)]
    padded = cloud.pad(cloud.x)
    assert padded.shape == (len(counts), cloud.longest, 5)
    for event, (first, last) in enumerate(ends):
        assert torch.equal(padded[event, : last - first], cloud.x[first:last])
        assert not padded[event, last - first :].any()
        total = sum((cloud.x[i] for i in range(first, last)), torch.zeros(5))
        torch.testing.assert_close(cloud.event_sum(cloud.x)[event], total.double())
        torch.testing.assert_close(cloud.event_mean(cloud.x)[event], total.double() / max(last - first, 1))
    assert torch.equal(cloud.flatten(padded), cloud.x)
    assert int(cloud.pair_mask.sum()) == complete(cloud.ptr).shape[1]


@pytest.mark.parametrize("rows", [[2, 0, 5, 5], [], [1], [8, 7, 6, 5, 4, 3, 2, 1, 0]])
def test_take(rows: list[int]) -> None:
    cloud = make_cloud(RAGGED)
    taken = cloud.take(torch.tensor(rows, dtype=torch.int64))
    parts = [(cloud.ptr[r], cloud.ptr[r + 1]) for r in rows]
    assert taken.counts.tolist() == [RAGGED[r] for r in rows]
    for name in ("x", "p4"):
        whole = getattr(cloud, name)
        assert torch.equal(getattr(taken, name), torch.cat([whole[:0], *(whole[a:b] for a, b in parts)]))


@pytest.mark.parametrize("members", [[[3, 4], [9, 3]], [[], [], []], [], [[5, 6, 4]]])
def test_regroup(members: list[list[int]]) -> None:
    cloud, chosen = make_cloud(RAGGED), torch.tensor(members, dtype=torch.int64)
    chosen = chosen.reshape(len(members), -1 if chosen.numel() else 0)
    found = cloud.regroup(chosen)
    assert found.counts.tolist() == [chosen.shape[1]] * len(members)
    for event, rows in enumerate(chosen):
        own = slice(int(found.ptr[event]), int(found.ptr[event + 1]))
        assert torch.equal(found.x[own], cloud.x[rows])
        assert torch.equal(found.p4[own], cloud.p4[rows])


def test_of_events_shares_memory(toy: Callable[..., Events]) -> None:
    events = toy()
    cloud = Cloud.of(events)
    assert np.shares_memory(cloud.x.numpy(), events.particles)
    assert cloud.ptr.tolist() == events.offsets.tolist()


def test_of_frozen_arrays(toy: Callable[..., Events]) -> None:
    """Arrays from files may be read-only; torch warns of those, and warnings are errors here."""
    events = toy()
    for name in ("particles", "p4", "offsets"):
        getattr(events, name).setflags(write=False)
    assert torch.equal(Cloud.of(events).x, torch.tensor(events.particles))


def test_of_batch(toy: Callable[..., Events]) -> None:
    events = toy(12)
    wanted, found = Cloud.of(events), Cloud.of_batch(events.graph())
    assert all(torch.equal(getattr(wanted, n), getattr(found, n)) for n in ("x", "p4", "ptr"))


def test_of_a_single_graph() -> None:
    cloud = make_cloud((4,))
    found = Cloud.of_batch(Data(x=cloud.x, p4=cloud.p4, edge_index=complete(cloud.ptr)))
    assert found.ptr.tolist() == [0, 4]


def test_graphs_that_are_not_complete_are_refused() -> None:
    """All pairs would be used all the same: better to say so."""
    cloud = make_cloud((4, 3))
    edges = complete(cloud.ptr)
    Cloud.of_batch(Batch(x=cloud.x, edge_index=edges, ptr=cloud.ptr))
    for wrong in (edges[:, 1:], torch.cat([edges, torch.tensor([[0], [0]])], dim=1)):
        with pytest.raises(ValueError, match="every ordered pair"):
            Cloud.of_batch(Batch(x=cloud.x, edge_index=wrong, ptr=cloud.ptr))
