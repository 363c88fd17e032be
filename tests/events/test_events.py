"""Events: subsets, joins and the four views against event-by-event loops."""

from __future__ import annotations

import dataclasses
import re
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepxai.events import SPLITS, Events, Schema
from hepxai.events.images import ImageAxis, ImageLayout

several_seeds = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def assert_same(a: Events, b: Events) -> None:
    for field in dataclasses.fields(Events):
        left, right = getattr(a, field.name), getattr(b, field.name)
        if isinstance(left, dict):
            assert left.keys() == right.keys()
            for key in left:
                np.testing.assert_array_equal(left[key], right[key], err_msg=key)
        elif isinstance(left, np.ndarray):
            np.testing.assert_array_equal(left, right, err_msg=field.name)
            assert left.dtype == right.dtype, field.name
        else:
            assert left == right, field.name


def one_by_one(events: Events) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(events.offsets.tolist())]


# --- schema and checks ---------------------------------------------------------------------------


def test_repr_is_one_line(toy):
    shown = repr(toy(3))
    assert shown.startswith("<Events: 3 events (background, signal), ")
    assert len(shown) < 120


def test_unknown_names_are_answered_with_the_known_ones(toy):
    schema = toy().schema
    with pytest.raises(KeyError, match="no particle type 'tau'; the card has electron, muon, jet, met"):
        schema.code("tau")
    with pytest.raises(KeyError, match="no particle feature 'px'; the card has pt, eta, phi, charge, btag"):
        schema.column("px")
    with pytest.raises(KeyError, match="no split 'validation'; there are train, valid, test"):
        toy().where("validation")


@pytest.mark.parametrize("change", [{"units": ("GeV",)}, {"global_units": ()}])
def test_every_quantity_has_a_unit(toy, change):
    with pytest.raises(ValueError, match="units"):
        dataclasses.replace(toy().schema, **change)


EVENT_COLUMNS = ("label", "weight", "globals", "run", "luminosity_block", "event", "file", "entry", "split")
PARTICLE_COLUMNS = ("particles", "p4", "type", "index")


@pytest.mark.parametrize("name", EVENT_COLUMNS)
def test_a_short_event_column_is_refused(toy, name):
    events = toy()
    with pytest.raises(ValueError, match=f"{name} has 39 rows for 40 events"):
        events.replace(**{name: getattr(events, name)[:-1]})


@pytest.mark.parametrize("name", PARTICLE_COLUMNS)
def test_a_short_particle_column_is_refused(toy, name):
    events = toy()
    with pytest.raises(ValueError, match=f"{name} has {events.n_particles - 1} rows"):
        events.replace(**{name: getattr(events, name)[:-1]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"observers": {"mass_mumu": np.zeros(39)}}, r"observers\.mass_mumu has 39 rows"),
        ({"truth": {"fromA": np.zeros(3, dtype=bool)}}, r"truth\.fromA has 3 rows"),
        ({"files": ("a.root:Events",)}, "2 numbers of entries for 1 files"),
        ({"samples": ("dy",)}, "1 samples for 2 files; give one for each"),
        ({"globals": np.zeros((40, 3), dtype=np.float32)}, r"globals has shape \(40, 3\)"),
    ],
)
def test_other_misaligned_columns_are_refused(toy, change, message):
    with pytest.raises(ValueError, match=message):
        toy().replace(**change)


@pytest.mark.parametrize("name", ["particles", "p4"])
def test_a_column_too_few_is_refused(toy, name):
    events = toy()
    with pytest.raises(ValueError, match=f"{name} has shape"):
        events.replace(**{name: getattr(events, name)[:, 1:]})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("label", 2, "label holds 2 (1 such); write 0 to 1, for background, signal"),
        ("label", -1, "label holds -1 (1 such); write 0 to 1"),
        ("split", 3, "split holds 3 (1 such); write 0 to 2, for train, valid, test"),
        ("type", 4, "type holds 4 (1 such); write 0 to 3, for electron, muon, jet, met"),
        ("file", 2, "file holds 2 (1 such); write 0 to 1"),
        (
            "weight",
            np.nan,
            "the weight of event 5 is nan (1 such); write finite weights, 0 for events that do",
        ),
        ("weight", -np.inf, "the weight of event 5 is -inf"),
    ],
)
def test_values_that_stand_for_nothing_are_refused(toy, name, value, message):
    column = getattr(toy(), name).copy()
    column[5] = value
    with pytest.raises(ValueError, match=re.escape(message)):
        toy().replace(**{name: column})
    column[5] = 0  # the remedy
    assert len(toy().replace(**{name: column})) == 40


def test_one_event_and_one_after_the_other(toy):
    events = toy(5)
    assert_same(events[3], events[3:4])
    assert_same(events[-1], events[np.array([4])])
    assert_same(Events.concatenate(events), events)
    assert [len(event) for event in events] == [1] * 5
    assert len(events[[]]) == 0
    twice = events[[2, 2]]  # as in a bootstrap
    assert twice.event.tolist() == [events.event[2]] * 2


@pytest.mark.parametrize(
    ("which", "kind", "message"),
    [
        (5, IndexError, "no event 5 among 5; positions are 0 to 4"),
        ([0, -6], IndexError, "no event -6 among 5"),
        (
            np.ones(4, dtype=bool),
            IndexError,
            "a mask of shape (4,) for 5 events; write one condition per event",
        ),
        (1.0, TypeError, "write positions, a slice or a mask, as in events[events.label == 1]"),
        ("muon", TypeError, "events['muon']; write positions, a slice or a mask"),
        (np.zeros((2, 2), dtype=int), TypeError, "write positions, a slice or a mask"),
        ((0, 1.5), TypeError, "write positions, a slice or a mask"),
    ],
)
def test_what_is_no_position_is_refused(toy, which, kind, message):
    events = toy(5)
    with pytest.raises(kind, match=re.escape(message)):
        events[which]
    assert len(events[events.label == 1]) == events.label.sum()  # the remedy


def test_offsets_that_go_back_are_refused(toy):
    events = toy()
    turned = events.offsets.copy()
    turned[3] = turned[-1]
    for offsets in (turned, events.offsets + 1):
        with pytest.raises(ValueError, match=r"offsets must start at 0|rows for"):
            events.replace(offsets=offsets)


# --- subsets and joins ---------------------------------------------------------------------------


@given(st.integers(0, 1000), st.data())
@several_seeds
def test_events_follow_the_rows_asked_for(toy, seed, data):
    events = toy(12, seed)
    rows = data.draw(st.lists(st.integers(-12, 11), max_size=15))
    part = events[rows]
    assert len(part) == len(rows)
    for own, row, particles in zip(range(len(rows)), rows, one_by_one(part), strict=True):
        source = one_by_one(events)[row]
        assert part.event[own] == events.event[row]
        assert part.observers["mass_mumu"][own] == events.observers["mass_mumu"][row]
        np.testing.assert_array_equal(part.particles[particles], events.particles[source])
        np.testing.assert_array_equal(part.truth["fromA"][particles], events.truth["fromA"][source])


def test_masks_slices_and_positions_agree(toy):
    events = toy()
    mask = events.label == 1
    assert_same(events[mask], events[np.flatnonzero(mask)])
    assert_same(events[mask], events[mask.tolist()])
    assert_same(events[5:30:3], events[list(range(5, 30, 3))])
    assert_same(events[:], events)
    assert len(events[[]]) == len(events[:0]) == 0


def test_rows_outside_are_refused(toy):
    for which in ([40], np.ones(39, dtype=bool)):
        with pytest.raises(IndexError):
            toy()[which]


def test_splits_cover_the_population(toy):
    events = toy()
    parts = [events.where(s) for s in SPLITS]
    assert sum(len(p) for p in parts) == len(events)
    assert all((p.split == i).all() for i, p in enumerate(parts))


@given(st.integers(0, 1000), st.lists(st.integers(0, 15), max_size=4))
@several_seeds
def test_parts_join_to_the_whole(toy, seed, cuts):
    events = toy(15, seed)
    bounds = [0, *sorted(cuts), 15]
    assert_same(Events.concatenate(events[a:b] for a, b in pairwise(bounds)), events)


def test_unlike_parts_do_not_join(toy):
    events = toy()
    renamed = dataclasses.replace(events.schema, classes=("a", "b"))
    for other in (events.replace(schema=renamed), events.replace(files=("c.root:Events", "d.root:Events"))):
        with pytest.raises(ValueError, match="differ in schema or files"):
            Events.concatenate([events, other])
    with pytest.raises(ValueError, match="nothing to concatenate"):
        Events.concatenate([])


# --- views ---------------------------------------------------------------------------------------


def test_table_shares_memory(toy):
    events = toy()
    table, names = events.table()
    assert np.shares_memory(table, events.globals)
    assert names == ("ht", "njet")


@given(st.integers(0, 1000))
@several_seeds
def test_padding_keeps_every_particle(toy, seed):
    events = toy(10, seed)
    values, mask = events.padded()
    assert values.shape == (10, events.counts.max(), 5)
    for e, particles in enumerate(one_by_one(events)):
        np.testing.assert_array_equal(values[e, mask[e]], events.particles[particles])
        assert (values[e, ~mask[e]] == 0).all()


def test_padding_never_drops_a_particle(toy):
    events = toy()
    assert events.padded(12)[0].shape == (40, 12, 5)
    with pytest.raises(ValueError, match="an event has 9 particles, more than maximum=4"):
        events.padded(4)


def by_hand(events: Events) -> list:
    """The graphs that a plain PyG user would make, one event at a time."""
    from torch_geometric.data import Data

    graphs = []
    for e, particles in enumerate(one_by_one(events)):
        n = particles.stop - particles.start
        edges = [(s, d) for d in range(n) for s in range(n) if s != d]
        graphs.append(
            Data(
                x=torch.tensor(events.particles[particles]),
                p4=torch.tensor(events.p4[particles]),
                edge_index=torch.tensor(edges, dtype=torch.int64).reshape(-1, 2).T,
                y=torch.tensor(events.label[e : e + 1]),
                weight=torch.tensor(events.weight[e : e + 1]),
            )
        )
    return graphs


def assert_same_graph(a, b) -> None:
    assert set(a.keys()) == set(b.keys())
    for key in a.keys():  # noqa: SIM118 - a PyG store is no mapping
        assert torch.equal(a[key], b[key]), key


def test_graph_equals_a_batch_made_event_by_event(toy):
    from torch_geometric.data import Batch

    events = toy()
    assert_same_graph(events.graph(), Batch.from_data_list(by_hand(events)))


def test_graph_comes_apart_again(toy):
    events = toy()
    batch, expected = events.graph(), by_hand(events)
    assert batch.num_graphs == len(events)
    for found in (batch.to_data_list(), [batch.get_example(e) for e in range(len(events))]):
        for a, b in zip(found, expected, strict=True):
            assert_same_graph(a, b)


def test_graphs_pass_through_a_pyg_loader(toy):
    from torch_geometric.loader import DataLoader

    events = toy()
    loaded = list(DataLoader(events.graph().to_data_list(), batch_size=16))
    for batch, start in zip(loaded, (0, 16, 32), strict=True):
        assert_same_graph(batch, events[start : start + 16].graph())


def test_graph_shares_memory(toy):
    events = toy()
    batch = events.graph()
    assert np.shares_memory(batch.x.numpy(), events.particles)
    assert np.shares_memory(batch.p4.numpy(), events.p4)


ALL = ("electron", "muon", "jet", "met")


def layout(rows, columns, types=ALL, x="phi", y="eta"):
    return ImageLayout(ImageAxis(y, tuple(rows)), ImageAxis(x, tuple(columns)), types)


@pytest.mark.parametrize("types", [ALL, ("jet", "muon")])
def test_images_are_histograms_per_type(toy, types):
    events = toy()
    rows, columns = np.linspace(-2, 2, 5), np.linspace(-np.pi, np.pi, 9)
    image = events.image(layout(rows, columns, types), weight="pt")
    lit = events.image(layout(rows, columns, types))
    assert image.shape == lit.shape == (40, len(types), 4, 8)
    for e, particles in enumerate(one_by_one(events)):
        for t, name in enumerate(types):
            own = events.p4[particles][events.type[particles] == events.schema.code(name)]
            slow, _, _ = np.histogram2d(own[:, 1], own[:, 2], bins=(rows, columns), weights=own[:, 0])
            assert image[e, t] == pytest.approx(slow, rel=1e-6)
            np.testing.assert_array_equal(lit[e, t], slow > 0)


def test_images_of_some_particles(toy):
    events = toy()
    wide = layout([-9.0, 9.0], [-2.0, 2.0], x="charge")
    lit = events.image(wide, where=events.truth["fromA"])
    own = [np.unique(events.type[p][events.truth["fromA"][p]]).size for p in one_by_one(events)]
    assert lit.sum(axis=(1, 2, 3)).tolist() == own
    assert events.image(wide, where=np.zeros(events.n_particles, dtype=bool)).sum() == 0


def test_images_leave_out_what_is_outside_or_no_number(toy):
    events = toy(5, smallest=1)
    p4 = events.p4.copy()
    p4[:, 1] = np.nan
    assert events.replace(p4=p4).image(layout([-9.0, 9.0], [-9.0, 9.0])).sum() == 0


def test_the_schema_knows_the_image(toy):
    events = toy()
    with pytest.raises(ValueError, match="these events have no image; say image: on the data-set card"):
        events.image()
    chosen = layout(np.linspace(-2, 2, 5), np.linspace(-np.pi, np.pi, 9), ("jet",))
    drawn = events.replace(schema=dataclasses.replace(events.schema, image=chosen))
    np.testing.assert_array_equal(drawn.image(), events.image(chosen))
    np.testing.assert_array_equal(drawn[[7]].image(), drawn.image()[[7]])


@pytest.mark.parametrize("largest", [0, 1])
@pytest.mark.parametrize("n", [0, 3])
def test_events_without_pairs_have_all_views(toy, n, largest):
    events = toy(n, smallest=largest, largest=largest)
    batch = events.graph()
    assert batch.edge_index.shape == (2, 0)
    assert batch.x.shape == (n * largest, 5)
    assert [d.num_nodes for d in batch.to_data_list()] == [largest] * n
    assert events.padded()[0].shape == (n, largest if n else 0, 5)
    assert events.image(layout(np.arange(3.0), np.arange(4.0))).shape == (n, 4, 2, 3)
    assert events.table()[0].shape == (n, 2)
    assert len(events[:]) == len(Events.concatenate([events])) == n


# --- physics helpers -----------------------------------------------------------------------------


def test_values_by_name(toy):
    events = toy()
    np.testing.assert_array_equal(events.values_of("mass"), events.p4[:, 3])
    np.testing.assert_array_equal(events.values_of("btag"), events.particles[:, 4])
    np.testing.assert_array_equal(events.is_type("jet"), events.type == 2)


def test_particles_are_numbered_inside_event_and_type(toy):
    events = toy()
    slow = []
    for particles in one_by_one(events):
        seen = dict.fromkeys(range(4), 0)
        for t in events.type[particles]:
            seen[t] += 1
            slow.append(f"{events.schema.types[t]} {seen[t]}")
    assert events.labels_of_particles() == slow
    assert events[:0].labels_of_particles() == []


def test_a_schema_may_have_no_globals():
    assert Schema(("pt",), ("GeV",), ("jet",), ()).globals == ()
