"""Detector resolutions: on cards, for events from arrays, as numbers of each particle."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ntuples import make_columns, write_ttree
from toy_events import make_events

from hepxai.cards import CardError, load_card
from hepxai.datasets import DatasetCard, read
from hepxai.datasets.resolutions import declared, resolutions_of
from hepxai.events import Events, Schema
from hepxai.events.schema import Resolution

FULL = {"pt": "0.02 * pt + 0.5", "eta": 0.001, "phi": "where(abs(eta) < 1.5, 0.001, 0.002)"}


def resolved(events: Events, given: Any) -> np.ndarray:
    return resolutions_of(events, declared(events, given, tuple(given)))


def test_expressions_against_a_loop() -> None:
    events = make_events(20)
    given = {"muon": FULL, "jet": {"pt": "sqrt(energy) + btag", "eta": 0, "phi": "2 / pt"}}
    sigma = resolved(events, given)
    for i, (pt, eta, _, mass) in enumerate(events.p4.astype(float)):
        kind, btag = events.schema.types[events.type[i]], float(events.particles[i, 4])
        energy = np.hypot(pt * np.cosh(eta), mass)
        expected = {
            "muon": (0.02 * pt + 0.5, 0.001, 0.001 if abs(eta) < 1.5 else 0.002),
            "jet": (np.sqrt(energy) + btag, 0, 2 / pt),
        }.get(kind, (0, 0, 0))
        np.testing.assert_allclose(sigma[i], expected, rtol=1e-6)


def test_none_declared_says_what_to_write() -> None:
    """And the remedy of the message works."""
    events = make_events(5)
    with pytest.raises(
        ValueError, match=r"no resolutions for muon, jet; write on the data-set card"
    ) as refused:
        declared(events, {"electron": FULL}, ("electron", "muon", "jet"))
    assert "resolutions={'muon': {'pt': '0.02 * pt', 'eta': 0.001, 'phi': 0.001}}" in str(refused.value)
    remedy = {t: {"pt": "0.02 * pt", "eta": 0.001, "phi": 0.001} for t in ("muon", "jet")}
    assert set(declared(events, remedy, ("muon", "jet"))) == {"muon", "jet"}


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"pt": 1, "eta": 1}, "resolutions of muon: no phi; give pt, eta and phi, 0 for"),
        ({**FULL, "mass": 1}, "resolutions of muon: no 'mass'; there are pt, eta, phi, max_eta"),
        (
            {**FULL, "pt": "ptt"},
            r"resolution of pt of muon, 'ptt': no branch or variable 'ptt' .*did you mean 'pt'",
        ),
        ({**FULL, "pt": "pt +"}, "resolution of pt of muon, .*syntax not understood"),
        ({**FULL, "pt": "10 - pt"}, r"the resolution '10 - pt' is -.* for a muon in event \d+ .*maximum"),
        ({**FULL, "pt": "1 / (pt - pt)"}, "the resolution .* is inf for a muon"),
        ({**FULL, "pt": "sum(pt)"}, "resolution of pt of muon"),
    ],
)
def test_bad_entries(entry: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        resolved(make_events(20), {"muon": entry})
    if "10 - pt" in message:  # the remedy
        assert (resolved(make_events(20), {"muon": {**entry, "pt": "maximum(10 - pt, 0.001)"}}) >= 0).all()


def test_unknown_type() -> None:
    with pytest.raises(KeyError, match="no particle type 'tau'"):
        declared(make_events(5), {"tau": FULL}, ())
    with pytest.raises(ValueError, match="resolutions of 'tau'; the particle types are"):
        dataclasses.replace(make_events(1).schema, resolutions=(Resolution("tau", "1", "1", "1"),))


def test_events_from_arrays_carry_them(tmp_path: Path) -> None:
    x = np.random.default_rng(0).uniform(1, 2, (4, 3, 4))
    events = Events.from_arrays(
        x, ["pt", "eta", "phi", "mass"], types=("muon",), resolutions={"muon": {**FULL, "max_eta": 2.4}}
    )
    assert events.schema.resolutions == (Resolution("muon", *map(str, FULL.values()), 2.4),)
    assert Schema.from_json(events.schema.to_json()) == events.schema
    events.save(tmp_path / "events.safetensors")
    assert Events.load(tmp_path / "events.safetensors").schema == events.schema
    with pytest.raises(ValueError, match="resolutions of 'jet'; the particle types are muon"):
        Events.from_arrays(x, ["pt", "eta", "phi", "mass"], types=("muon",), resolutions={"jet": FULL})


def test_files_without_them_still_load() -> None:
    text = make_events(1).schema.to_json().replace(', "resolutions": []', "")
    assert "resolutions" not in text
    assert Schema.from_json(text).resolutions == ()


CARD = """
name: toy
samples:
  - {{name: dy, files: dy.root, class: background}}
  - {{name: tt, files: tt.root, class: signal}}
labels: [background, signal]
particles:
  muon:
    branches: Muon_{{}}
    features: {{charge: charge}}
    resolutions: {entry}
features: [pt, eta, phi, charge]
"""


def card_with(folder: Path, entry: str) -> Path:
    path = folder / "card.yaml"
    path.write_text(CARD.format(entry=entry), encoding="utf-8")
    return path


def test_a_card_fills_the_schema(tmp_path: Path) -> None:
    for i, name in enumerate(("dy", "tt")):
        write_ttree(tmp_path / f"{name}.root", make_columns(20, seed=i))
    path = card_with(tmp_path, "{pt: 0.02 * pt + 0.1 * abs(charge), eta: 0.001, phi: 0.001, max_eta: 2.4}")
    events = read(load_card(path, DatasetCard)).events
    assert events.schema.resolutions[0].max_eta == 2.4
    sigma = resolutions_of(events, declared(events, None, ("muon",)))
    charge = np.abs(events.values_of("charge"))
    np.testing.assert_allclose(sigma[:, 0], 0.02 * events.p4[:, 0] + 0.1 * charge, rtol=1e-6)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (
            "{pt: 0.02 * ptt, eta: 0, phi: 0}",
            r"card.yaml:11: .*pt: no quantity of a particle 'ptt' .*did you mean",
        ),
        ("{pt: 1, eta: 0}", "phi: .*required|missing|phi"),
        ("{pt: -1, eta: 0, phi: 0}", "found -1; a resolution is not below 0"),
        ("{pt: 1, eta: 0, phi: 0, max_eta: 0}", "max_eta: found 0; should be greater than 0"),
        ("{pt: jet.pt, eta: 0, phi: 0}", "no quantity of a particle 'jet.pt'"),
    ],
)
def test_bad_cards(tmp_path: Path, entry: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        load_card(card_with(tmp_path, entry), DatasetCard)


def test_hits_have_none(tmp_path: Path) -> None:
    path = card_with(tmp_path, "{pt: 1, eta: 0, phi: 0}")
    text = path.read_text().replace("Muon_{}\n", "Muon_{}\n    momenta: none\n")
    path.write_text(text.replace("[pt, eta, phi, charge]", "[charge]"))
    with pytest.raises(CardError, match="resolutions: without momenta; leave it out"):
        load_card(path, DatasetCard)
