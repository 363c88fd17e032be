"""Fired strips come out as configured; chunks are determined by settings and number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import spectrometer_helpers as helpers

from hepxai.core.jagged import offsets_from_counts, parents
from hepxai.simulate.chunk import ChunkTask, load_chunk, store_chunk
from hepxai.simulate.spectrometer.digitisation import Strips, muon_strips, read_out
from hepxai.simulate.spectrometer.simulation import Spectrometer

QUIET = {
    "noise": {"strip_probability": 0.0},
    "background": {"clusters": 0.0},
}
NO_TALK = {"cross_talk": {"probability": 0.0, "reach": 5}}


def made(sample="muons", index=0, **changes):
    return Spectrometer(helpers.settings_with(**changes), sample).make(index).columns


def clusters(columns):
    """Event, layer and size of every run of neighbouring strips."""
    event = parents(offsets_from_counts(columns["Hit.counts"]))
    layer = columns["Hit.layer"].astype(int)
    key = (event * 9 + layer) * 1000 + columns["Hit.strip"]
    begins = np.flatnonzero(np.diff(key, prepend=-5) != 1)
    return event[begins], layer[begins], np.diff(np.append(begins, len(key)))


def close(measured, expected, number, sigmas=4.5):
    """A share measured in ``number`` tries."""
    return abs(measured - expected) < sigmas * np.sqrt(expected * (1 - expected) / number)


@pytest.fixture(scope="module")
def clean():
    """Hard muons in the middle of the acceptance; nothing else."""
    gun = {"pt": [15.0, 20.0], "eta": [0.2, 0.8]}
    return made(muon=gun, layers=NO_TALK, **QUIET)


def test_efficiency(clean) -> None:
    tries = len(clean["Hit.counts"])
    _, layer, _ = clusters(clean)
    for number in np.bincount(layer, minlength=9):
        assert close(number / tries, 0.95, tries)


def test_cluster_sizes(clean) -> None:
    _, _, size = clusters(clean)
    for i, share in enumerate((0.62, 0.28, 0.08, 0.02)):
        assert close(np.mean(size == i + 1), share, len(size))
    assert clean["Hit.fromMuon"].all()


def test_cross_talk_is_a_strip_of_its_own() -> None:
    gun = {"pt": [15.0, 20.0], "eta": [0.2, 0.8]}
    one = {"cluster_sizes": [1.0], "cross_talk": {"probability": 0.03, "reach": 5}}
    columns = made(muon=gun, layers=one, **QUIET)
    event, layer, size = clusters(columns)
    muons = len(np.unique(event * 9 + layer))
    assert (size == 1).all()
    assert close(len(size) / muons - 1, 0.03, muons)
    first = np.flatnonzero((np.diff(event) == 0) & (np.diff(layer) == 0))
    gap = np.diff(columns["Hit.strip"].astype(int))[first]
    assert set(gap.tolist()) == {2, 3, 4, 5}


def test_noise_is_as_configured_and_as_measured() -> None:
    columns = made("noise")
    events = len(columns["Hit.counts"])
    assert not columns["Hit.fromMuon"].any()
    assert columns["Muon.counts"].sum() == 0
    _, layer, size = clusters(columns)
    # 9 background clusters and 3456 strips at 1e-4; neighbours that merge take some 2 % away.
    assert len(size) / events == pytest.approx(9 + 0.3456, rel=0.03)
    shares = [np.mean(size == 1), np.mean(size == 2), np.mean(size == 3), np.mean(size >= 4)]
    np.testing.assert_allclose(shares, [0.39, 0.37, 0.18, 0.06], atol=0.01)
    assert columns["Hit.counts"].mean() == pytest.approx(18, abs=0.4)
    inner, middle, outer = (np.mean(np.isin(layer, k)) for k in ([0, 1, 2], [3, 4, 5, 6], [7, 8]))
    np.testing.assert_allclose([inner, middle, outer], [4.2 / 9, 3.4 / 9, 1.4 / 9], atol=0.01)


def test_strips_that_fire_alone() -> None:
    columns = made("noise", noise={"strip_probability": 1e-3}, background={"clusters": 0.0})
    expected = 9 * 384 * 1e-3
    error = np.sqrt(expected / len(columns["Hit.counts"]))
    assert columns["Hit.counts"].mean() == pytest.approx(expected, abs=4.5 * error)
    strips = np.bincount(columns["Hit.strip"], minlength=384)
    assert np.all(np.abs(strips - strips.mean()) < 6 * np.sqrt(strips.mean()))


def test_every_strip_once_in_order_inside() -> None:
    columns = made("dimuons")
    event = parents(offsets_from_counts(columns["Hit.counts"]))
    key = (event * 9 + columns["Hit.layer"]) * 384 + columns["Hit.strip"]
    assert (np.diff(key) > 0).all()
    assert columns["Hit.strip"].min() == 0
    assert columns["Hit.strip"].max() == 383
    assert columns["Muon.counts"].tolist() == [2] * len(columns["event"])


def test_shares_of_muon_numbers() -> None:
    samples = {"samples": {"mixed": {"run": 9, "fractions": [0.2, 0.5, 0.3]}}}
    counts = made("mixed", **samples)["Muon.counts"]
    for number, share in enumerate((0.2, 0.5, 0.3)):
        assert close(np.mean(counts == number), share, len(counts))


def test_muons_are_flat_and_of_both_charges() -> None:
    columns = made()
    pt, eta, charge = (columns[f"Muon.{k}"] for k in ("pt", "eta", "charge"))
    for values, low, high in ((pt, 0.3, 20), (eta, 0, 1.05)):
        found, _ = np.histogram(values, 10, (low, high))
        assert found.sum() == len(values)
        assert np.all(np.abs(found - len(values) / 10) < 4.5 * np.sqrt(len(values) / 10))
    assert close(np.mean(charge == 1), 0.5, len(charge))


def test_a_strip_fired_twice_is_one_and_the_muons() -> None:
    layers = helpers.settings_with().layers

    def at(*hits):
        return Strips(*np.array(hits).T)

    strips, real = read_out(at((0, 1, 5), (0, 1, 5), (2, 8, 383)), (at((0, 1, 5), (1, 0, 0)),), layers)
    assert list(zip(strips.event, strips.layer, strips.strip, real, strict=True)) == [
        (0, 1, 5, True),
        (1, 0, 0, False),
        (2, 8, 383, True),
    ]


def test_clusters_hold_the_strip_that_was_crossed_and_stay_inside() -> None:
    changes = {"efficiency": 1.0, "cluster_sizes": [0.0, 0.0, 0.5, 0.5], **NO_TALK}
    layers = helpers.settings_with(layers=changes).layers
    position = np.array([0.01, 0.5, 100.2, 100.8, 383.2, 383.99, -0.1, 384.01])
    radii = np.array(layers.radii)
    z = np.sinh(position[:, None] / 384 * 1.05) * radii
    found = muon_strips(np.arange(8), z, np.ones_like(z, dtype=bool), layers, np.random.default_rng(0))
    fired = set(zip(found.event.tolist(), found.layer.tolist(), found.strip.tolist(), strict=True))
    assert {(e, k, int(position[e])) for e in range(6) for k in range(9)} <= fired
    assert set(found.event.tolist()) == set(range(6))  # the last two are outside
    assert found.strip.min() >= 0
    assert found.strip.max() < 384


def test_a_chunk_is_determined_by_settings_and_number(tmp_path: Path) -> None:
    once, again, other = made(index=3), made(index=3), made(index=4)
    assert all(np.array_equal(once[k], again[k]) for k in once)
    assert not np.array_equal(once["Muon.pt"], other["Muon.pt"])
    assert set(once["event"].tolist()).isdisjoint(other["event"].tolist())
    simulation = Spectrometer(helpers.settings_with(), "muons")
    task = ChunkTask(simulation, 3, tmp_path / "chunk.safetensors")
    assert store_chunk(task) == simulation.settings.chunk_events
    stored = simulation.first_events(load_chunk(task.path), 70).columns
    for key, column in stored.items():
        np.testing.assert_array_equal(column, once[key][: len(column)])
    assert len(stored["Hit.strip"]) == stored["Hit.counts"].sum()
    assert len(stored["event"]) == len(stored["Muon.pt"]) == 70
