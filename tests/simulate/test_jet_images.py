"""Jet images: origin of jets and towers against hand-written records, chunks, the shipped sample."""

from __future__ import annotations

from importlib.metadata import version

import awkward as ak
import numpy as np
import pytest
import simulate_helpers as helpers
import uproot

from hepxai.core.fingerprint import fingerprint
from hepxai.datasets import DatasetCard, read
from hepxai.simulate import load_settings, read_provenance
from hepxai.simulate.collection import Collection
from hepxai.simulate.jet_images.origin import decay_quarks, from_origin
from hepxai.simulate.jet_images.settings import Calorimeter, Origin, Towers
from hepxai.simulate.jet_images.simulation import JetImages
from hepxai.simulate.jet_images.towers import calorimeters, from_b
from hepxai.simulate.jets import Constituents

SHIPPED = helpers.DATASETS / "jet_images"
SETTINGS = load_settings(SHIPPED)
CLASSES = ("quark", "gluon", "b", "w", "top")
PERFECT = Calorimeter(resolution={"abs_eta_max": 9.0}, pt_min=0.5, step=0.25)
TOWERS = Towers(number=5, width=0.1, em=PERFECT, had=PERFECT)


def one_jet(eta=0.0, phi=0.0, events=1):
    columns = {k: np.full(events, v, dtype=float) for k, v in {"pt": 500.0, "eta": eta, "phi": phi}.items()}
    return Collection(np.arange(events), columns, events)


SYSTEM, GLUON = (90, -11, 0, 1.0, 0, 0, 0), (21, -21, 0, 1.0, 3.0, 0, 0)
TOP_DECAY = [
    SYSTEM,
    GLUON,
    (6, -22, 1, 500.0, 0.0, 0.0, 173.0),
    (6, -62, 2, 480.0, 0.1, 0.0, 173.0),  # after the shower
    (5, -23, 3, 200.0, 0.2, 0.1, 4.8),
    (24, -22, 3, 300.0, 0.0, 0.0, 80.0),
    (24, -52, 5, 300.0, 0.0, 0.0, 80.0),
    (2, -23, 6, 150.0, -0.3, 0.2, 0.0),
    (-1, -23, 6, 150.0, 0.4, -0.6, 0.0),
    (2, -51, 7, 140.0, -0.3, 0.2, 0.0),  # the same quark, after it radiated
]


def test_quarks_of_a_top_decay():
    record = helpers.record(TOP_DECAY)
    assert decay_quarks(record, (6,)).tolist() == [4, 7, 8]
    assert decay_quarks(record, (24,)).tolist() == [7, 8]


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        ({"particles": [6], "quarks": 3, "contained": 0.8}, True),
        ({"particles": [6], "quarks": 3, "contained": 0.7}, False),  # the third lies 0.72 away
        ({"particles": [6], "quarks": 2, "contained": 0.7}, True),
        ({"particles": [21]}, False),
        ({"particles": [24], "quarks": 2}, False),  # the W comes from the top, not from the hard process
    ],
)
def test_origin_of_a_jet(origin, expected):
    jets = one_jet()
    assert from_origin(helpers.record(TOP_DECAY), jets, Origin(**origin), 1.0).tolist() == [expected]
    assert not from_origin(helpers.record(TOP_DECAY), one_jet(eta=2.5), Origin(**origin), 1.0).any()


def test_the_nearest_particle_is_the_origin():
    pair = [SYSTEM, GLUON, (1, -23, 1, 500.0, 0.5, 0.0, 0.0), (21, -23, 1, 400.0, -0.3, 0.0, 0.0)]
    record = helpers.record(pair, pair)
    jets = one_jet(events=2)
    assert from_origin(record, jets, Origin(particles=[21]), 1.0).tolist() == [True, True]
    assert from_origin(record, jets, Origin(particles=[1]), 1.0).tolist() == [False, False]


DECAYS = [(421, -91, 2, 5, 0, 0, 1.9), (321, 91, 3, 3, 0, 0, 0.5), (211, 91, 0, 3, 0, 0, 0.1)]


def test_descendants_of_b_hadrons():
    record = helpers.record(
        [
            SYSTEM,
            (5, -23, 0, 9, 0, 0, 4.8),
            (511, -83, 1, 8, 0, 0, 5.3),
            (421, -91, 2, 5, 0, 0, 1.9),
            (321, 91, 3, 3, 0, 0, 0.5),
            (211, 91, 0, 3, 0, 0, 0.1),
        ]
    )
    assert from_b(record).tolist() == [False, False, True, True, True, False]


def test_towers_are_those_of_a_loop():
    rng = np.random.default_rng(1)
    ids = [22, 211, -211, 11, 13, 130]
    rows = [
        (
            rng.choice(ids),
            1,
            0,
            rng.uniform(0.1, 5),
            1 + rng.uniform(-0.4, 0.4),
            np.pi + rng.uniform(-0.4, 0.4),
            0,
        )
        for _ in range(200)
    ]
    record = helpers.record([SYSTEM, *rows])
    inside = Constituents(np.zeros(200, dtype=np.int64), np.arange(1, 201))
    made = calorimeters(record, inside, one_jet(1.0, -np.pi), TOWERS, np.random.default_rng(0))
    for name, members in (("Em", (22, 11)), ("Had", (211, 130))):
        slow = np.zeros((5, 5))
        for code, _, _, pt, eta, phi, _ in rows:
            row, column = int(np.floor((eta - 1) / 0.1 + 2.5)), int(np.floor((phi - np.pi) / 0.1 + 2.5))
            if abs(code) in members and 0 <= row < 5 and 0 <= column < 5:
                slow[row, column] += pt
        slow = np.round(slow / 0.25) * 0.25
        fast = np.zeros((5, 5))
        fast[made[name]["row"], made[name]["column"]] = made[name]["pt"]
        np.testing.assert_allclose(fast, np.where(slow >= 0.5, slow, 0))
        assert not made[name]["fromB"].any()


def test_a_chunk():
    pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
    pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")
    settings = SETTINGS.model_copy(update={"chunk_events": 12})
    simulation = JetImages(settings, "w")
    chunk, again = simulation.make(0), simulation.make(0)
    assert all(np.array_equal(chunk.columns[k], again.columns[k]) for k in chunk.columns)
    assert chunk.generated == 12
    assert (np.diff(chunk.cutflow.counts) <= 0).all()
    columns = chunk.columns
    assert ((columns["jet_pt"] > 450) & (columns["jet_pt"] < 600)).all()
    energy = [
        np.bincount(
            np.repeat(np.arange(chunk.selected), columns[f"{k}.counts"]), columns[f"{k}.pt"], chunk.selected
        )
        for k in ("Em", "Had")
    ]
    np.testing.assert_allclose(sum(energy), columns["jet_pt"], rtol=0.35)


@pytest.fixture(scope="module")
def events():
    return read(DatasetCard.find("jet_images")).events


def test_the_shipped_sample(events):
    for name in CLASSES:
        stored = read_provenance(SHIPPED / f"{name}.root")
        assert stored["parts"]["settings"] == fingerprint(SETTINGS.settings_of(name))
    assert (np.bincount(events.label) >= 500).all()
    assert sum(p.stat().st_size for p in SHIPPED.glob("*.root")) < 1.5e6
    image = events.image()
    assert image.shape[1:] == (2, 25, 25)
    assert events.schema.units[events.schema.features.index("et")] == "GeV"
    assert image[image > 0].min() >= 0.25
    assert (events.particles[:, 2] / 0.0625 % 1 == 0).all()


def test_the_classes_look_as_they_should(events):
    image = events.image().sum(1)
    row, column = np.indices((25, 25)) - 12
    spread = (image * np.hypot(row, column)).sum((1, 2)) / image.sum((1, 2))
    width = dict(
        zip(events.schema.classes, (spread[events.label == k].mean() for k in range(5)), strict=True)
    )
    assert width["quark"] < width["gluon"] < width["top"]
    mass = [np.median(events.observers["jet_mass"][events.label == k]) for k in range(5)]
    assert mass[3] == pytest.approx(88, abs=10)
    assert mass[4] == pytest.approx(180, abs=12)
    share = [events.truth["fromB"][events.label[events.parent] == k].mean() for k in range(5)]
    assert min(share[2], share[4]) > 0.05 > max(share[0], share[1], share[3])


@pytest.mark.slow
def test_the_shipped_jets_can_be_made_again():
    pytest.importorskip("pythia8mc", reason="simulating events needs the extra simulate")
    pytest.importorskip("fastjet", reason="simulating events needs the extra simulate")
    shipped = read_provenance(SHIPPED / "top.root")["versions"]
    if shipped != {package: version(package) for package in shipped}:
        pytest.skip("other package versions than those that made the shipped sample")
    made = JetImages(SETTINGS, "top").make(0).columns
    with uproot.open(SHIPPED / "top.root") as file:
        stored = file["Events"].arrays()
    first = stored[stored.luminosityBlock == 1]
    assert first.event.tolist() == made["event"].tolist()
    np.testing.assert_allclose(ak.to_numpy(ak.flatten(first.Em_pt)), made["Em.pt"], rtol=1e-5)
