"""Attribution: axes, selections, means, conversions and storage against plain loops."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hepxai.attribution import Attribution, Pairs
from hepxai.core.files import read_tensors, write_tensors
from hepxai.events import Events

several_seeds = settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


def of_particles(events: Events, seed: int = 0) -> Attribution:
    rng = np.random.default_rng(seed)
    return Attribution(
        rng.normal(size=(events.n_particles, 5)).astype(np.float32),
        ("particle", "feature"),
        events,
        "node_ig",
        "signal",
        labels={"feature": events.schema.features},
        residual=rng.normal(size=len(events)),
        output_change=rng.normal(size=len(events)),
    )


def of_pairs(events: Events, seed: int = 0) -> Attribution:
    pairs = Pairs.complete(events)
    return Attribution(
        np.random.default_rng(seed).random((len(pairs.src), 2, 3)).astype(np.float32),
        ("pair", "layer", "head"),
        events,
        "attention",
        "signal",
        settings={"layers": ["first", "last"]},
        labels={"layer": ("first", "last")},
        pairs=pairs,
        checks={"max_row_deviation": 1e-7},
    )


def of_events(events: Events) -> Attribution:
    values = np.random.default_rng(0).normal(size=(len(events), 2))
    return Attribution(values, ("event", "feature"), events, "tabular", "signal")


def slices(offsets: np.ndarray) -> list[slice]:
    return [slice(a, b) for a, b in pairwise(offsets.tolist())]


# --- axes ----------------------------------------------------------------------------------------


def test_axes_are_found_by_name(toy):
    attribution = of_pairs(toy())
    assert [attribution.axis(a) for a in ("pair", "layer", "head")] == [0, 1, 2]
    with pytest.raises(KeyError, match="no axis 'neuron'; there are pair, layer, head"):
        attribution.axis("neuron")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"axes": ("pair", "layer")}, "values have 3 axes"),
        ({"axes": ("head", "layer", "pair")}, "must be event, particle, pair or self"),
        ({"axes": ("event", "layer", "head"), "pairs": None}, "rows for 40 events"),
        ({"pairs": None}, "a pair axis needs pairs"),
        ({"labels": {"layer": ("one",)}}, "1 labels for axis layer"),
        ({"labels": {"neuron": ("one",)}}, "no axis 'neuron'"),
    ],
)
def test_values_that_do_not_fit_their_axes_are_refused(toy, change, message):
    with pytest.raises((ValueError, KeyError), match=message):
        of_pairs(toy()).replace(**change)


# --- selections ----------------------------------------------------------------------------------

SELECTIONS = {
    "pair": ({"pair": ("muon", "jet")}, lambda s, d: {s, d} == {"muon", "jet"}),
    "same": ({"pair": ("muon", "muon")}, lambda s, d: s == d == "muon"),
    "source": ({"source": "jet"}, lambda s, d: s == "jet"),
    "destination": ({"destination": "met"}, lambda s, d: d == "met"),
    "both": ({"source": "jet", "destination": "met"}, lambda s, d: (s, d) == ("jet", "met")),
    "all": ({"pair": ("jet", "met"), "source": "jet"}, lambda s, d: (s, d) == ("jet", "met")),
}


@pytest.mark.parametrize("name", SELECTIONS)
def test_pairs_are_selected_by_type(toy, name):
    asked, wanted = SELECTIONS[name]
    events = toy()
    whole = of_pairs(events)
    types = [events.schema.types[t] for t in events.type]
    rows = [
        [p for p in range(s.start, s.stop) if wanted(types[whole.pairs.src[p]], types[whole.pairs.dst[p]])]
        for s in slices(whole.offsets)
    ]
    part = whole.select(**asked)
    flat = [p for row in rows for p in row]
    np.testing.assert_array_equal(part.values, whole.values[flat])
    np.testing.assert_array_equal(part.pairs.src, whole.pairs.src[flat])
    np.testing.assert_array_equal(part.pairs.dst, whole.pairs.dst[flat])
    assert np.diff(part.offsets).tolist() == [len(row) for row in rows]


def test_particles_are_selected_by_type(toy):
    events = toy()
    whole = of_particles(events)
    part = whole.select(particle="muon")
    np.testing.assert_array_equal(part.values, whole.values[events.type == 1])
    assert np.diff(part.offsets).tolist() == [(events.type[s] == 1).sum() for s in slices(events.offsets)]
    np.testing.assert_array_equal(part.pairs.src, np.flatnonzero(events.type == 1))


def test_a_label_selects_along_a_regular_axis_and_drops_it(toy):
    whole = of_pairs(toy())
    part = whole.select(layer="last", pair=("jet", "jet"))
    assert part.axes == ("pair", "head")
    assert part.labels == {}
    np.testing.assert_array_equal(part.values, whole.select(pair=("jet", "jet")).values[:, 1])


def test_several_labels_keep_their_axis(toy):
    whole = of_pairs(toy())
    part = whole.select(layer=["last", "first"])
    assert part.axes == whole.axes
    assert part.labels["layer"] == ("last", "first")
    np.testing.assert_array_equal(part.values, whole.values[:, [1, 0]])
    with pytest.raises(KeyError, match="has no 'middle'; it has first, last"):
        whole.select(layer=["last", "middle"])


def test_selections_add_up(toy):
    whole = of_particles(toy())
    total = sum(whole.select(particle=t).sum("particle").values for t in whole.events.schema.types)
    np.testing.assert_allclose(total, whole.sum("particle").values, atol=1e-12)


@pytest.mark.parametrize(
    ("make", "asked", "message"),
    [
        (of_pairs, {"particle": "muon"}, "needs a particle axis; attention has pair, layer, head"),
        (of_particles, {"pair": ("muon", "muon")}, "needs a pair axis; node_ig has particle, feature"),
        (of_particles, {"particle": "muon", "source": "jet"}, "needs a pair axis"),
        (of_particles, {"particle": "tau"}, "no particle type 'tau'"),
        (of_pairs, {"pair": ("muon", "tau")}, "no particle type 'tau'"),
        (of_particles, {"feature": "px"}, "axis 'feature' has no 'px'; it has pt, eta, phi"),
        (of_pairs, {"head": "0"}, "it has no labels"),
    ],
)
def test_what_cannot_be_selected_says_why(toy, make, asked, message):
    with pytest.raises((KeyError, ValueError), match=message):
        make(toy()).select(**asked)


@given(st.integers(0, 1000), st.sampled_from([of_pairs, of_particles]))
@several_seeds
def test_what_a_mask_keeps_stays_with_its_event(toy, seed, make):
    whole = make(toy(12, seed), seed)
    mask = np.random.default_rng(seed).random(len(whole.values)) < 0.4
    part = whole.keep(mask)
    rows = [[i for i in range(s.start, s.stop) if mask[i]] for s in slices(whole.offsets)]
    assert len(part.events) == len(whole.events)
    assert np.diff(part.offsets).tolist() == [len(r) for r in rows]
    np.testing.assert_array_equal(part.values, whole.values[[i for row in rows for i in row]])
    ends = [whole._ends(), part._ends()]
    for before, after in zip(*ends, strict=True):
        np.testing.assert_array_equal(after, before[mask])
    np.testing.assert_array_equal(part.keep(np.zeros(len(part.values), dtype=bool)).offsets, 0)


def test_a_mask_over_events_keeps_events(toy):
    whole = of_events(toy())
    part = whole.keep(whole.events.label == 1)
    np.testing.assert_array_equal(part.values, whole.values[whole.events.label == 1])
    assert (part.events.label == 1).all()


@pytest.mark.parametrize("mask", [np.ones(3, dtype=bool), np.arange(2), np.ones((40, 1), dtype=bool)])
def test_a_mask_that_does_not_fit_is_refused(toy, mask):
    with pytest.raises(ValueError, match=r"a mask of .* for 40 events; one bool for each is needed"):
        of_events(toy()).keep(mask)


# --- reductions ----------------------------------------------------------------------------------


@given(st.integers(0, 1000))
@several_seeds
def test_sums_and_means_over_pairs(toy, seed):
    attribution = of_pairs(toy(10, seed, largest=4), seed)
    for event, s in enumerate(slices(attribution.offsets)):
        values = attribution.values[s].astype(float)
        assert attribution.sum("pair").values[event] == pytest.approx(values.sum(axis=0), abs=1e-6)
        expected = values.mean(axis=0) if len(values) else np.full((2, 3), np.nan)
        assert attribution.mean("pair").values[event] == pytest.approx(expected, nan_ok=True)


def test_regular_axes_reduce_with_their_labels(toy):
    attribution = of_pairs(toy())
    summed, mean = attribution.sum("head"), attribution.mean("layer")
    assert (summed.axes, summed.labels) == (("pair", "layer"), {"layer": ("first", "last")})
    assert (mean.axes, mean.labels) == (("pair", "head"), {})
    np.testing.assert_allclose(summed.values, attribution.values.sum(axis=2))
    np.testing.assert_allclose(mean.values, attribution.values.mean(axis=1))
    assert attribution.sum("pair").axes == ("event", "layer", "head")


def test_the_mean_over_events_has_a_weight_and_an_error(toy):
    with pytest.raises(ValueError, match=r"runs over the population: use population\(\)"):
        of_events(toy()).mean("event")


def slow_population(attribution: Attribution, where: np.ndarray) -> tuple[float, float]:
    """Weighted mean over the pairs of the events, and its sandwich error, one pair at a time."""
    sums = []
    for event, s in enumerate(slices(attribution.offsets)):
        values = [float(v) for v in attribution.values[s] if np.isfinite(v)]
        weight = attribution.events.weight[event]
        if where[event] and weight and values:
            sums.append((weight, sum(values), len(values)))
    norm = sum(w * n for w, _, n in sums)
    mean = sum(w * t for w, t, _ in sums) / norm
    variance = sum((w * (t - mean * n)) ** 2 for w, t, n in sums) / norm**2
    return mean, float(np.sqrt(variance * len(sums) / (len(sums) - 1)))


@given(st.integers(0, 1000), st.sampled_from(["all", "pair", "class"]))
@several_seeds
def test_population_equals_a_loop(toy, seed, what):
    attribution = of_pairs(toy(30, seed), seed).select(layer="first").sum("head")
    attribution = attribution.select(pair=("muon", "jet")) if what == "pair" else attribution
    values = attribution.values.copy()
    values[::7] = np.nan  # left out, not poison
    attribution = attribution.replace(values=values)
    where = attribution.events.label == 1 if what == "class" else np.ones(30, dtype=bool)
    found = attribution.population(None if what != "class" else where)
    expected = slow_population(attribution, where)
    assert (float(found.value), float(found.error)) == pytest.approx(expected, rel=1e-5)


def test_population_keeps_the_regular_axes(toy):
    attribution = of_pairs(toy())
    whole = attribution.population()
    assert whole.value.shape == whole.error.shape == (2, 3)
    one = attribution.replace(values=attribution.values[:, 1, 2], axes=("pair",), labels={}).population()
    assert float(whole.value[1, 2]) == pytest.approx(float(one.value))
    assert float(whole.error[1, 2]) == pytest.approx(float(one.error))


def test_the_population_of_nothing_is_unknown(toy):
    assert np.isnan(of_pairs(toy()).population(np.zeros(40, dtype=bool)).value).all()
    assert np.isnan(of_pairs(toy(0)).population().value).all()


def test_a_mask_of_other_events_is_refused(toy):
    with pytest.raises(ValueError, match=r"where has shape \(7,\), the attribution 40 events; make it from"):
        of_pairs(toy()).population(np.ones(7, dtype=bool))


# --- subsets of events ---------------------------------------------------------------------------


@given(st.integers(0, 1000), st.data())
@several_seeds
def test_pairs_stay_with_their_particles(toy, seed, data):
    whole = of_pairs(toy(8, seed), seed).select(source="jet")
    rows = np.array(data.draw(st.lists(st.integers(-8, 7), max_size=8)), dtype=np.int64)
    part = whole[rows]
    for row, own, old in zip(
        rows,
        slices(part.offsets),
        [slices(whole.offsets)[r] for r in rows],
        strict=True,
    ):
        np.testing.assert_array_equal(part.values[own], whole.values[old])
        for end in ("src", "dst"):
            mine, theirs = getattr(part.pairs, end)[own], getattr(whole.pairs, end)[old]
            np.testing.assert_array_equal(part.events.p4[mine], whole.events.p4[theirs])
        assert (part.events.type[part.pairs.src[own]] == 2).all(), row


def test_residuals_follow_their_events(toy):
    whole = of_particles(toy())
    mask = whole.events.label == 1
    part = whole[mask]
    np.testing.assert_array_equal(part.residual, whole.residual[mask])
    np.testing.assert_array_equal(part.output_change, whole.output_change[mask])
    assert len(whole[:0].values) == 0
    assert of_events(toy())[3:5].values.shape == (2, 2)


# --- conversions ---------------------------------------------------------------------------------


def test_awkward_arrays_nest_like_the_events(toy):
    attribution = of_pairs(toy())
    array = attribution.to_awkward()
    assert len(array) == 40
    for event, s in enumerate(slices(attribution.offsets)):
        first = attribution.events.offsets[event]
        assert array[event].src.to_list() == (attribution.pairs.src[s] - first).tolist()
        assert array[event].dst.to_list() == (attribution.pairs.dst[s] - first).tolist()
        np.testing.assert_array_equal(array[event].value.to_list(), attribution.values[s].tolist())


def test_awkward_arrays_of_particles_and_events(toy):
    events = toy()
    array = of_particles(events).to_awkward()
    assert [len(a) for a in array] == events.counts.tolist()
    assert array.fields == ["value"]
    np.testing.assert_array_equal(of_events(events).to_awkward().value.to_numpy(), of_events(events).values)
    assert len(of_pairs(toy(0)).to_awkward()) == 0


def test_pyg_explanations_of_pairs(toy):
    attribution = of_pairs(toy(smallest=3)).sum("head").select(layer="last", pair=("muon", "jet"))
    for event in range(5):
        explanation, own = attribution.to_pyg(event), slices(attribution.offsets)[event]
        assert explanation.validate()
        first = attribution.events.offsets[event]
        np.testing.assert_array_equal(explanation.edge_mask, attribution.values[own])
        np.testing.assert_array_equal(explanation.edge_index[0], attribution.pairs.src[own] - first)
        np.testing.assert_array_equal(explanation.edge_index[1], attribution.pairs.dst[own] - first)


def test_pyg_explanations_of_particles(toy):
    attribution = of_particles(toy(smallest=3))
    own = slices(attribution.events.offsets)[1]
    whole = attribution.to_pyg(1)
    assert whole.validate()
    np.testing.assert_array_equal(whole.node_mask, attribution.values[own])
    muons = attribution.sum("feature").select(particle="muon").to_pyg(1)
    assert muons.validate()
    expected = np.where(attribution.events.type[own] == 1, attribution.values[own].sum(axis=1), 0)
    np.testing.assert_allclose(muons.node_mask[:, 0], expected, rtol=1e-6)


@pytest.mark.parametrize("make", [of_pairs, of_events])
def test_pyg_has_no_mask_for_some_axes(toy, make):
    with pytest.raises(ValueError, match=r"PyG has no mask for the axes (pair, layer, head|event, feature)"):
        make(toy()).to_pyg(0)


# --- storage -------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [of_particles, of_pairs, of_events])
def test_what_is_saved_is_loaded(toy, tmp_path: Path, make):
    saved = make(toy())
    saved.save(tmp_path / "a.safetensors")
    loaded = Attribution.load(tmp_path / "a.safetensors", saved.events)
    for name in ("axes", "method", "target", "settings", "labels", "checks"):
        assert getattr(loaded, name) == getattr(saved, name), name
    for name in ("values", "residual", "output_change"):
        np.testing.assert_array_equal(getattr(loaded, name), getattr(saved, name))
    assert (loaded.pairs is None) == (saved.pairs is None)
    if saved.pairs is not None:
        for name in ("src", "dst", "offsets"):
            np.testing.assert_array_equal(getattr(loaded.pairs, name), getattr(saved.pairs, name))


def test_a_selection_is_saved_with_its_pairs(toy, tmp_path: Path):
    saved = of_pairs(toy()).select(pair=("muon", "jet"))
    saved.save(tmp_path / "a.safetensors")
    loaded = Attribution.load(tmp_path / "a.safetensors", saved.events)
    np.testing.assert_array_equal(loaded.pairs.src, saved.pairs.src)


def test_an_attribution_of_other_events_is_refused(toy, tmp_path: Path):
    events = toy()
    of_pairs(events).save(tmp_path / "a.safetensors")
    for other in (events[:39], events[::-1], toy(seed=1)):
        with pytest.raises(ValueError, match=r"a\.safetensors explains other events than the \d+ given"):
            Attribution.load(tmp_path / "a.safetensors", other)


@pytest.mark.parametrize("name", ["values", "pairs.src", "pairs.offsets", "residual"])
def test_a_shortened_column_is_refused(toy, tmp_path: Path, name):
    path, events = tmp_path / "a.safetensors", toy()
    attribution = of_pairs(events).replace(residual=np.zeros(40))
    attribution.save(path)
    tensors, metadata = read_tensors(path)
    write_tensors(path, tensors | {name: tensors[name][:-1]}, metadata)
    with pytest.raises(ValueError, match=r"rows|pairs"):
        Attribution.load(path, events)


def test_other_and_damaged_files_are_refused(toy, tmp_path: Path):
    path, events = tmp_path / "a.safetensors", toy()
    write_tensors(path, {"weight": np.zeros(3)}, {"model": json.dumps({})})
    with pytest.raises(ValueError, match="holds no attribution"):
        Attribution.load(path, events)
    of_pairs(events).save(path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ValueError, match="truncated"):
        Attribution.load(path, events)
    with pytest.raises(FileNotFoundError):
        Attribution.load(tmp_path / "absent", events)


def test_errors_follow_their_values(toy, tmp_path: Path):
    events = toy(8)
    error = np.arange(events.n_particles, dtype=np.float64)
    whole = of_particles(events).sum("feature").replace(error=error)
    jets = whole.select(particle="jet")
    assert np.array_equal(jets.error, error[events.is_type("jet")])
    rows = np.array([5, 2, 2])
    flat = np.concatenate([error[slices(events.offsets)[r]] for r in rows])
    assert np.array_equal(whole[rows].error, flat)
    joined = Attribution.concatenate([whole[:3], whole[3:]])
    assert np.array_equal(joined.error, error)
    assert whole.to_awkward().error[2].to_list() == error[slices(events.offsets)[2]].tolist()
    whole.save(tmp_path / "map.safetensors")
    assert np.array_equal(Attribution.load(tmp_path / "map.safetensors", events).error, error)


def test_other_values_have_no_error(toy):
    """What was done to the values would have to be done to their errors, too."""
    events = toy(8)
    whole = of_particles(events).sum("feature").replace(error=np.ones(events.n_particles))
    assert whole.replace(method="renamed").error is not None
    assert whole.replace(values=2 * whole.values).error is None
    assert whole.sum("particle").error is None
    assert whole.mean("particle").error is None
    with pytest.raises(ValueError, match=r"error has shape \(3,\) for values of"):
        whole.replace(error=np.ones(3))
