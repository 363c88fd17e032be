"""Events from arrays in memory: against the reader of cards, against loops, and every bad input."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import pytest
import uproot
from ntuples import make_columns, write_ttree

from hepxai.cards import load_card
from hepxai.datasets import DatasetCard, read
from hepxai.events import P4, SPLITS, Events
from hepxai.events.splits import Split

CARD = """
name: same
samples: [{name: all, files: all.root}]
labels: {background: trigger, signal: not trigger}
weights: genWeight
particles:
  muon: {branches: "Muon_{}", order_by: index, features: {charge: charge}, truth: {fromA: fromA}}
  jet: {branches: "Jet_{}", order_by: index, features: {btag: btag}}
  met: {branches: {pt: MET_pt, phi: MET_phi}}
features: [energy, px, py, pz, pt, log_pt, sin_phi, mass, charge, btag, type]
pair_features: [delta_r]
globals: {met: {expression: met.pt, units: GeV}}
observers: {n_raw: nJet * 1}
split: {train: 6, valid: 3, test: 1}
"""
FEATURES = ["energy", "px", "py", "pz", "pt", "log_pt", "sin_phi", "mass", "charge", "btag", "type"]


def collection(arrays: ak.Array, name: str, *fields: str) -> ak.Array:
    return ak.zip({f: arrays[f"{name}_{f}"] for f in ("pt", "eta", "phi", "mass", *fields)}, with_name=name)


def test_as_the_card_reads_it(tmp_path: Path) -> None:
    write_ttree(tmp_path / "all.root", make_columns(150, seed=1))
    (tmp_path / "card.yaml").write_text(CARD, encoding="utf-8")
    expected = read(load_card(tmp_path / "card.yaml", DatasetCard)).events
    with uproot.open({tmp_path / "all.root": "Events"}) as tree:
        nano = tree.arrays()
    events = Events.from_awkward(
        {
            "muon": collection(nano, "Muon", "charge", "fromA"),
            "jet": collection(nano, "Jet", "btag"),
            "met": {"pt": nano.MET_pt, "phi": nano.MET_phi},
        },
        features=FEATURES,
        truth=["fromA"],
        pair_features=["delta_r"],
        label=np.where(np.asarray(nano.trigger), "background", "signal"),
        classes=("background", "signal"),
        weight=nano.genWeight,
        globals={"met": nano.MET_pt},
        observers={"n_raw": ak.num(nano.Jet_pt)},
        identity={"run": nano.run, "luminosity_block": nano.luminosityBlock, "event": nano.event},
        units={"met": "GeV"},
    )
    columns = (
        "offsets",
        "particles",
        "p4",
        "type",
        "index",
        "label",
        "weight",
        "globals",
        "run",
        "event",
        "split",
    )
    for name in columns:
        mine, theirs = getattr(events, name), getattr(expected, name)
        assert mine.dtype == theirs.dtype, name
        np.testing.assert_array_equal(mine, theirs, err_msg=name)
    np.testing.assert_array_equal(events.truth["fromA"], expected.truth["fromA"])
    np.testing.assert_array_equal(events.observers["n_raw"], expected.observers["n_raw"])
    same = ("features", "units", "types", "classes", "globals", "global_units", "pair_features")
    assert all(getattr(events.schema, n) == getattr(expected.schema, n) for n in same)


# --- awkward records -----------------------------------------------------------------------------------


def muons(seed: int = 0, events: int = 6) -> dict[str, Any]:
    """Fields of a few muons, not ordered in pt, as lists."""
    rng = np.random.default_rng(seed)
    counts = rng.integers(0, 4, events)
    counts[0] = 2
    return {
        "pt": [rng.exponential(30, c).tolist() for c in counts],
        "eta": [rng.normal(0, 1, c).tolist() for c in counts],
        "phi": [rng.uniform(-3, 3, c).tolist() for c in counts],
        "mass": [[0.106] * c for c in counts],
        "charge": [rng.choice([-1, 1], c).tolist() for c in counts],
    }


def one(**changes: Any) -> dict[str, Any]:
    """Particles of one muon type with other fields."""
    return {"muon": muons() | changes}


@pytest.mark.parametrize("form", ["lists", "records", "behaviour", "vector", "cartesian", "float64 numpy"])
def test_all_forms_give_the_same_particles(form: str) -> None:
    given: Any = muons()
    arrays = {k: ak.Array(v) for k, v in given.items()}
    if form == "records":
        given = ak.zip(arrays)
    elif form == "behaviour":
        given = ak.zip(arrays, with_name="PtEtaPhiMLorentzVector", behavior={("*", "x"): object})
    elif form == "vector":
        given = pytest.importorskip("vector").zip(arrays)
        assert "rho" in given.fields
    elif form == "cartesian":
        pt, eta, phi, mass = (arrays[n] for n in P4)
        px, py, pz = pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta)
        energy = np.sqrt(px**2 + py**2 + pz**2 + mass**2)
        given = {"px": px, "Py": py, "pz": pz, "E": energy, "charge": arrays["charge"]}
    events = Events.from_awkward({"muon": given})
    assert events.schema.features == ("energy", "px", "py", "pz", "charge")
    n = 0
    for e, row in enumerate(muons()["pt"]):  # a plain loop
        for i in range(len(row)):
            pt, eta, phi, mass, charge = (muons()[k][e][i] for k in (*P4, "charge"))
            energy = np.sqrt((pt * np.cosh(eta)) ** 2 + mass**2)
            expected = [energy, pt * np.cos(phi), pt * np.sin(phi), pt * np.sinh(eta), charge]
            np.testing.assert_allclose(events.particles[n], expected, rtol=1e-5, atol=1e-5)
            np.testing.assert_allclose(events.p4[n], [pt, eta, phi, mass], rtol=1e-4, atol=2e-3)
            assert (events.parent[n], events.index[n]) == (e, i)
            n += 1
    assert n == events.n_particles


def test_identity_is_made_up_and_said() -> None:
    events = Events.from_awkward(one())
    assert "in memory, event numbers are rows" in repr(events)
    assert "event numbers are rows" in events._repr_html_()
    assert events.event.tolist() == events.entry.tolist() == list(range(6))
    assert events.schema.classes == ("events",)
    other = Events.from_awkward(one(pt=[[v + 1 for v in row] for row in muons()["pt"]]))
    assert events.fingerprint() != other.fingerprint(), "stored results of other arrays must not fit"
    assert events.fingerprint() == Events.from_awkward(one()).fingerprint()
    numbered = Events.from_awkward(one(), identity={"event": np.arange(6) + 5})
    assert "rows" not in repr(numbered)


def test_splits() -> None:
    many = np.random.default_rng(0).normal(size=5000)
    shares = np.bincount(Events.from_awkward({}, globals={"x": many}).split) / 5000
    np.testing.assert_allclose(shares, [0.6, 0.3, 0.1], atol=0.03)
    for given in ("test", ["test"] * 6, np.full(6, 2)):
        assert set(Events.from_awkward(one(), split=given).split) == {SPLITS.index("test")}
    tuned = Events.from_awkward(one(), split=Split(train=1, valid=0, test=0))
    assert set(tuned.split) == {0}


def test_a_table_without_particles() -> None:
    events = Events.from_awkward(
        {}, globals={"a": [1, 2], "b": [3.0, 4.0]}, label=[0, 1], targets={"t": [1, np.nan]}
    )
    table, names = events.table()
    assert names == ("a", "b")
    assert table.tolist() == [[1, 3], [2, 4]]
    assert events.n_particles == 0
    assert np.isnan(events.targets[1, 0])


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ([0, 1, 0, 1, 1, 0], None, ("background", "signal")),
        ([0, 1, 0, 2, 1, 0], None, ("class_0", "class_1", "class_2")),
        ([False, True] * 3, ("qcd", "top"), ("qcd", "top")),
        (ak.Array(["top", "qcd"] * 3), ("qcd", "top"), ("qcd", "top")),
    ],
)
def test_labels(label: Any, classes: Any, expected: tuple[str, ...]) -> None:
    events = Events.from_awkward(one(), label=label, classes=classes)
    assert events.schema.classes == expected
    names = [expected[c] for c in events.label]
    assert names == [v if isinstance(v, str) else expected[int(v)] for v in ak.to_list(label)]


def test_dask_arrays_are_refused() -> None:
    class Delayed:
        dask, compute = None, None

    with pytest.raises(TypeError, match=r"muon is a delayed array.*compute"):
        Events.from_awkward({"muon": Delayed()})
    with pytest.raises(TypeError, match=r"label is a delayed array.*compute"):
        Events.from_awkward(one(), label=Delayed())


def test_virtual_arrays_are_loaded() -> None:
    form, length, buffers = ak.to_buffers(ak.zip({k: ak.Array(v) for k, v in muons().items()}))
    loaded: list[str] = []

    def later(name: str) -> Callable[[], Any]:
        return lambda: loaded.append(name) or buffers[name]

    lazy = ak.from_buffers(form, length, {name: later(name) for name in buffers})
    assert not loaded
    events = Events.from_awkward({"muon": lazy}, features=["pt"])
    assert events.particles[:, 0].tolist() == np.float32(ak.flatten(ak.Array(muons()["pt"]))).tolist()
    assert not [name for name in loaded if "charge" in name], "fields that nobody reads are not loaded"


# --- padded and flat arrays ------------------------------------------------------------------------------


def padded(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(5, 4, 5))
    x[..., 0] = abs(x[..., 0]) + 1
    mask = rng.random((5, 4)) < 0.6  # gaps included
    mask[0] = True
    return x, mask


NAMES = ["part_pt", "part_eta", "part_phi", "part_mass", "d0"]


def test_padded_and_flat_agree() -> None:
    x, mask = padded()
    x[~mask] = np.nan  # padding is never read
    events = Events.from_arrays(x, NAMES, mask=mask, p4="part_{}", label=np.arange(5) % 2)
    rows = [(e, i) for e in range(5) for i in range(4) if mask[e, i]]
    for n, (e, i) in enumerate(rows):
        assert events.particles[n].tolist() == x[e, i].astype(np.float32).tolist()
        assert events.p4[n].tolist() == x[e, i, :4].astype(np.float32).tolist()
        assert (events.parent[n], events.index[n]) == (e, i)
    flat, counts = x[mask], mask.sum(axis=1)
    for ends in ({"counts": counts}, {"offsets": np.append(0, np.cumsum(counts))}):
        other = Events.from_arrays(flat, NAMES, p4=x[mask][:, :4], **ends)
        np.testing.assert_array_equal(other.particles, events.particles)
        np.testing.assert_array_equal(other.offsets, events.offsets)
        np.testing.assert_array_equal(other.p4, events.p4)
    first = np.arange(4) < counts[:, None]
    values, real = events.padded(4)
    np.testing.assert_array_equal(real, first)
    again = Events.from_arrays(values, NAMES, counts=counts, p4="part_{}")
    np.testing.assert_array_equal(again.particles, events.particles)


def test_types_and_truth() -> None:
    x, mask = padded()
    kind = np.array(["muon", "jet", "jet", "muon"] * 5).reshape(5, 4)
    events = Events.from_arrays(
        x, NAMES, mask=mask, p4="part_{}", type=kind, types=("jet", "muon"), truth={"fromA": kind == "muon"}
    )
    assert [events.schema.types[t] for t in events.type] == kind[mask].tolist()
    assert events.truth["fromA"].tolist() == (kind[mask] == "muon").tolist()
    assert not Events.from_arrays(x, NAMES, mask=mask, p4="none").p4.any()


# --- images ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [1, 3])
def test_images_come_back_exactly(channels: int) -> None:
    images = np.random.default_rng(0).normal(size=(6, channels, 5, 7)).astype(np.float32)
    images[abs(images) < 0.4] = 0  # gaps
    images[2] = 0  # an empty event
    events = Events.from_images(images, label=[0, 1] * 3)
    np.testing.assert_array_equal(events.image(), images)
    assert (events.image() < 0).any()
    np.testing.assert_array_equal(events[3:1:-1].image(), images[3:1:-1])
    integers = (images * 10).astype(np.uint8)
    np.testing.assert_array_equal(Events.from_images(integers).image(), integers)


# --- bad input: one clear line, whose remedy works ---------------------------------------------------------

X, MASK = padded()
IMAGES = np.ones((3, 1, 2, 2))


def awkward(**options: Any) -> Callable[..., Events]:
    return lambda: Events.from_awkward(options.pop("particles", one()), **options)


def array(x: Any = X, names: Any = NAMES, **options: Any) -> Callable[..., Events]:
    return lambda: Events.from_arrays(x, names, **({"mask": MASK, "p4": "part_{}"} | options))


def changed(array: np.ndarray, value: float, at: Any) -> np.ndarray:
    other = array.astype(float)
    other[at] = value
    return other


NONE = ak.Array([[1.0, None], *muons()["pt"][1:]])
CARTESIAN = np.abs(np.random.default_rng(4).normal(size=(5, 4, 4))) + 1


BAD = {
    "lengths of fields": (
        awkward(particles=one(eta=[[0.0], *muons()["eta"][1:]])),
        r"muon.eta has 1 values in event 0, muon.pt has 2",
    ),
    "events of fields": (
        awkward(particles=one(eta=muons()["eta"][1:])),
        r"muon.eta has 5 events, muon.pt has 6",
    ),
    "events of types": (
        awkward(particles=one() | {"met": {"pt": [1.0], "phi": [0.0]}}),
        r"met has 1 events, muon has 6",
    ),
    "no pt": (awkward(particles={"muon": {"eta": [[1.0]], "phi": [[1.0]]}}), r"muon has eta, phi; give pt"),
    "no mass": (
        awkward(particles={"muon": {k: v for k, v in muons().items() if k != "mass"}}),
        r"neither mass nor energy",
    ),
    "negative pt": (
        awkward(particles=one(pt=[[-3.0, 1.0], *muons()["pt"][1:]])),
        r"pt is -3.0 for muon in event 0 \(1 such\)",
    ),
    "NaN momentum": (
        awkward(particles=one(eta=[[np.nan, 1.0], *muons()["eta"][1:]])),
        r"eta is nan for muon in event 0",
    ),
    "infinite pt": (
        awkward(particles=one(pt=[[1e39, 1.0], *muons()["pt"][1:]])),
        r"pt is inf for muon in event 0",
    ),
    "NaN feature": (
        awkward(particles=one(charge=[[1, np.nan], *muons()["charge"][1:]])),
        r"charge is nan for muon in event 0",
    ),
    "texts": (
        awkward(particles=one(pt=[["a", "b"], *muons()["pt"][1:]])),
        r"muon.pt holds .*expected one number per particle|muon.pt: expected numbers",
    ),
    "text feature": (
        awkward(particles=one(charge=[[["+"]] * len(r) for r in muons()["pt"]])),
        r"muon.charge holds",
    ),
    "missing values": (
        awkward(particles=one(pt=NONE)),
        r"muon.pt has missing values .* in 1 events, first in event 0; .*fill_none",
    ),
    "no fields": (awkward(particles={"muon": np.ones((6, 4))}), r"muon is a ndarray without fields"),
    "nothing": (awkward(particles={}), r"neither particles nor globals"),
    "many fields": (
        awkward(particles=one(**{f"f{i}": muons()["pt"] for i in range(12)})),
        r"muon has 13 further fields.*features=",
    ),
    **{
        f"field {name} of one type": (
            awkward(particles=one(**{name: muons()["pt"]}), features=features),
            rf"muon has a field '{name}', .*; rename it, as in muon_{name}",
        )
        for name, features in [
            *(("log_pt", None), ("sin_phi", None), ("cos_phi", ["pt", "cos_phi"])),
            *(("is_muon", None), ("type", ["type"])),
        ]
    },
    "unknown feature": (awkward(features=["energy", "chrge"]), r"no feature 'chrge' \(did you mean 'charge'"),
    "unknown truth": (awkward(truth=["fromB"]), r"no particle type has a field 'fromB'"),
    "labels of another length": (awkward(label=[0, 1]), r"label has shape \(2,\) for 6 events"),
    "labels out of range": (
        awkward(label=[0, 1, 2, 0, 1, 0], classes=("a", "b")),
        r"label holds 2 \(1 such\); write 0 to 1",
    ),
    "negative label": (awkward(label=[0, 1, -1, 0, 1, 0]), r"label holds -1 \(1 such\)"),
    "float labels": (awkward(label=np.ones(6)), r"label: expected .*, got float64; .*astype\(int\)"),
    "names without classes": (awkward(label=["a", "b"] * 3), r"their order is not known; .*classes="),
    "unknown name": (
        awkward(label=["a", "b"] * 3, classes=("a", "c")),
        r"label holds 'b' \(3 such\); the names are a, c",
    ),
    "classes without labels": (awkward(classes=("a", "b")), r"2 classes \(a, b\) and no labels"),
    "classes as a text": (awkward(label=[0] * 6, classes="signal"), r"write a tuple"),
    "NaN weight": (awkward(weight=[1.0, np.nan, 1, 1, 1, 1]), r"weight of event 1 is nan"),
    "text weight": (awkward(weight=["1"] * 6), r"weight: expected numbers, got <U1"),
    "missing weight": (
        awkward(weight=ak.Array([1.0, None, 1, 1, 1, 1])),
        r"weight is no regular array.*fill_none",
    ),
    "NaN global": (awkward(globals={"ht": [1, 2, 3, np.inf, 5, 6]}), r"globals: ht is inf in event 3"),
    "infinite target": (awkward(targets={"t": [1, 2, 3, np.inf, 5, 6]}), r"targets: t is inf in event 3"),
    "identity": (awkward(identity={"number": range(6)}), r"identity has no 'number'; it takes run"),
    "identity without event": (awkward(identity={"run": np.ones(6, dtype=int)}), r"identity without event"),
    "float identity": (
        awkward(identity={"event": np.ones(6)}),
        r"identity: event: expected whole numbers, got float64",
    ),
    "large identity": (awkward(identity={"event": np.full(6, 2**63, dtype=np.uint64)}), r"below 2\^63"),
    "split": (awkward(split="testing"), r"split holds 'testing'.*train, valid, test"),
    "units": (awkward(units={"chrge": "e"}), r"units: no column 'chrge' \(did you mean 'charge'"),
    "mask of another length": (array(mask=MASK[:, :3]), r"mask of bool \(5, 3\) for x of shape \(5, 4, 5\)"),
    "mask of numbers": (array(mask=MASK * 2.0), r"true for real ones"),
    "padding without a mask": (
        array(x=X * MASK[..., None], mask=None),
        r"all zero and there is no mask; .*mask=\(x != 0\)",
    ),
    "counts and mask": (array(counts=MASK.sum(axis=1)), r"a mask or counts, one of them"),
    "counts too large": (array(mask=None, counts=[5] * 5), r"give one number from 0 to 4"),
    "counts do not sum up": (array(x=X[MASK], mask=None, counts=[1, 2]), r"sum up to 3 particles, x has \d+"),
    "falling offsets": (array(x=X[MASK], mask=None, offsets=[0, 3, 2]), r"never decrease"),
    "no counts": (array(x=X[MASK], mask=None), r"takes counts or offsets, one of them"),
    "float counts": (
        array(x=X[MASK], mask=None, counts=[1.5]),
        r"counts: expected whole numbers, got float64",
    ),
    "transposed": (array(x=X.transpose(0, 2, 1)), r"x looks feature-first: pass x.transpose\(0, 2, 1\)"),
    "names of columns": (array(names=NAMES[:3]), r"for 3 features; name each column"),
    "one name": (array(names="part_pt"), r"list of F names"),
    "no momenta": (array(p4="{}"), r"no momenta; .*p4='part_\{\}'.*p4='none'"),
    "pattern": (array(p4="part"), r"expected one \{\} in p4='part'; .*p4='part_\{\}'"),
    "shape of p4": (array(p4=X[..., :3]), r"the last axis is pt, eta, phi, mass"),
    "texts in x": (array(x=X.astype(str)), r"x: expected numbers, got <U\d+"),
    "NaN in x": (array(x=changed(X, np.nan, (0, 0, 4))), r"d0 is nan for particle in event 0 \(1 such\)"),
    "negative pt in x": (array(x=changed(X, -1, (0, 0, 0))), r"pt is -1.0 for particle in event 0"),
    "unknown type": (
        array(type=np.full((5, 4), "tau"), types=("muon",)),
        r"type holds 'tau'.*the names are muon",
    ),
    "shape of types": (array(type=np.zeros(5, dtype=int)), r"type has shape \(5,\)"),
    "shape of truth": (array(truth={"a": MASK[0]}), r"truth: a has shape \(4,\)"),
    "NaN pixel": (
        lambda: Events.from_images(changed(IMAGES, np.nan, (1, 0, 0, 0))),
        r"a pixel is nan in event 1 \(1 such\)",
    ),
    "images without channels": (lambda: Events.from_images(IMAGES[:, 0]), r"images\[:, None\]"),
    "one image": (lambda: Events.from_images(IMAGES[0, 0]), r"give \[events, .*columns\]$"),
    "names of channels": (lambda: Events.from_images(IMAGES, channels=["a", "b"]), r"2 names of channels"),
    "units as a text": (array(units="MeV"), r"units='MeV' is a text; give a mapping"),
    "unknown units": (array(units={"c": "MeV"}), r"units: no column 'c'; there are"),
    "one-hot labels": (array(label=np.eye(5)), r"label has shape \(5, 5\); .*label\.argmax\(axis=1\)"),
    "rest": (array(label=np.arange(5) % 3, classes=("a", "b", "rest")), r"no class may be called 'rest'"),
    "columns of one name": (
        lambda: Events.from_arrays(X, [*NAMES[:-1], NAMES[0]], mask=MASK, p4="none"),
        r"features has 'part_pt' twice",
    ),
    "columns in another order": (
        lambda: Events.from_arrays(
            -CARTESIAN, ["energy", "px", "py", "pz"], mask=np.ones((5, 4), dtype=bool)
        ),
        r"energies are negative; are the columns in the order of their names\?",
    ),
    "phi of something else": (
        lambda: Events.from_arrays(
            400 * CARTESIAN, ["pt", "eta", "phi", "mass"], mask=np.ones((5, 4), dtype=bool)
        ),
        r"phi is .*expected radians: are the columns in the order of their names\?",
    ),
    "records without a mapping": (
        lambda: Events.from_awkward(ak.Array([[{"pt": 1.0}]])),
        r"give a mapping of par",
    ),
    "unknown option": (
        lambda: Events.from_images(IMAGES, labels=[0]),
        r"no option 'labels' \(did you mean 'label'",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_line(case: str) -> None:
    call, message = BAD[case]
    with pytest.raises((ValueError, TypeError), match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


def test_the_remedies_work() -> None:
    filled = ak.fill_none(NONE, 0)
    assert Events.from_awkward(one(pt=filled)).n_particles == len(ak.flatten(filled))
    dropped = {k: ak.drop_none(ak.mask(ak.Array(v), ~ak.is_none(NONE, axis=1))) for k, v in muons().items()}
    assert Events.from_awkward({"muon": dropped}).n_particles == len(ak.flatten(filled)) - 1
    assert (
        len(Events.from_arrays(X.transpose(0, 2, 1).transpose(0, 2, 1), NAMES, mask=MASK, p4="part_{}")) == 5
    )
    x = X * MASK[..., None]
    assert Events.from_arrays(x, NAMES, mask=(x != 0).any(-1), p4="part_{}").n_particles == MASK.sum()
    assert Events.from_images(IMAGES[:, 0][:, None]).n_particles == 12
    Events.from_awkward(one(), weight=ak.fill_none(ak.Array([1.0, None, 1, 1, 1, 1]), 0))
    many = one(**{f"f{i}": muons()["pt"] for i in range(12)})
    assert Events.from_awkward(many, features=["energy", "px", "py", "pz", "f3"]).particles.shape[1] == 5


def test_events_are_no_single_array() -> None:
    with pytest.raises(TypeError, match=r"events.particles \[N, F\], events.padded"):
        np.asarray(Events.from_awkward(one()))


def test_notebooks_escape_names() -> None:
    events = Events.from_awkward({"<b>mu</b>": muons()}, label=[0, 1] * 3, classes=("<i>", "&"))
    text = events._repr_html_()
    assert "<b>mu" not in text
    assert "&lt;b&gt;mu" in text
    assert "&lt;i&gt;" in text
    assert "GeV" in text
