"""Stored positions, lists of lists and 64-bit numbers on cards, against values worked out by hand."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
from ntuples import jagged, write_rntuple, write_ttree

from hepxai.cards import CardError
from hepxai.datasets import DatasetCard, ReadError, read
from hepxai.events import Events

CardOf = Callable[..., DatasetCard]
N_GEN, N_MUON, N_JET = np.array([3, 2, 0, 4]), np.array([2, 1, 0, 2]), np.array([1, 2, 0, 1])
GEN_PT = np.array([50.0, 30, 20, 60, 10, 90, 80, 70, 15])
GEN_ID = np.array([23, 13, -13, 24, 13, 25, 23, 13, -13])
MUON_GEN = np.array([1, 2, -1, 3, 2])
CANDIDATES = np.array([2, 0, 1, 3, 1, -1])  # of the jets: positions among the generated particles

CARD = """
name: references
samples: [{name: s, files: a.root, class: a}]
labels: [a]
particles:
  muon:
    branches: Muon_{}
    cuts: take(GenPart_pdgId, genPartIdx) != 25
    features:
      genPt: take(GenPart_pt, genPartIdx, 0)
      motherId: take(take(GenPart_pdgId, GenPart_motherIdx), genPartIdx, 0)
    truth:
      fromZ: take(GenPart_pdgId, take(GenPart_motherIdx, genPartIdx, -1)) == 23
features: [pt, genPt, motherId]
"""


def columns() -> dict[str, ak.Array | np.ndarray]:
    muon = {"pt": [30, 20, 11, 60, 70], "eta": [0] * 5, "phi": [0] * 5, "mass": [0.1] * 5}
    out: dict[str, ak.Array | np.ndarray] = {"event": np.array([2**53, 2**53 + 1, 7, 2**63 - 1])}
    out |= {f"Muon_{n}": jagged(N_MUON, np.array(v, dtype=np.float32)) for n, v in muon.items()}
    out["Muon_genPartIdx"] = jagged(N_MUON, MUON_GEN.astype(np.int32))
    out["GenPart_pt"] = jagged(N_GEN, GEN_PT)
    out["GenPart_pdgId"] = jagged(N_GEN, GEN_ID)
    out["GenPart_motherIdx"] = jagged(N_GEN, np.array([-1, 0, 0, -1, 0, -1, 0, 1, 1]))
    out["Jet_genIdx"] = jagged(np.array([3, 0, 0, 3]), CANDIDATES)
    return out


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_ttree(tmp_path / "a.root", columns())


def refused(card: DatasetCard) -> str:
    with pytest.raises((CardError, ReadError)) as error:
        read(card)
    return str(error.value).replace(f"{card.folder}/", "")


def events_of(card: DatasetCard) -> Events:
    return read(card).events


# --- positions -------------------------------------------------------------------------------------


def test_features_and_truth_follow_positions_of_the_file(file: Path, card_of: CardOf) -> None:
    """Cuts and order of the muons do not move the positions, nor does the chunk."""
    events = events_of(card_of(CARD))
    np.testing.assert_array_equal(events.counts, [2, 1, 0, 2])
    np.testing.assert_array_equal(events.values_of("genPt"), [30, 20, 0, 70, 15])  # the last event by pt
    np.testing.assert_array_equal(events.values_of("motherId"), [23, 23, 0, 23, 23])
    np.testing.assert_array_equal(events.truth["fromZ"], [True, True, False, True, True])
    one = read(card_of(CARD), chunk=1).events
    np.testing.assert_array_equal(one.particles, events.particles)


def test_positions_of_a_particle_type_count_before_its_cuts(file: Path, card_of: CardOf) -> None:
    zero = "0 * GenPart_pt"
    branches = (
        f"pt: GenPart_pt, eta: {zero}, phi: {zero}, mass: {zero}, id: GenPart_pdgId, up: GenPart_motherIdx"
    )
    gen = f"""  gen:
    branches: {{{branches}}}
    cuts: pt > 25
    features:
      id: id
      motherPt: where(up < 0, 0, take(self, up).pt)
features: [motherPt, id, pt"""
    x = "where(genPartIdx < 0, 0, take(gen, genPartIdx).pt)"
    text = CARD.replace("take(GenPart_pt, genPartIdx, 0)", x).replace("features: [pt", gen)
    events = events_of(card_of(text))
    own = events.is_type("muon")
    np.testing.assert_array_equal(events.values_of("genPt")[own], [30, 20, 0, 70, 15])
    np.testing.assert_array_equal(events.values_of("motherPt")[~own], [0, 50, 0, 0, 90, 80])


def test_constituents_are_particles_of_taken_columns(file: Path, card_of: CardOf) -> None:
    events = events_of(
        card_of("""
name: constituents
samples: [{name: s, files: a.root, class: a}]
labels: [a]
particles:
  constituent:
    branches:
      pt: take(GenPart_pt, Jet_genIdx)
      eta: take(0 * GenPart_pt, Jet_genIdx)
      phi: take(0 * GenPart_pt, Jet_genIdx)
      mass: take(0 * GenPart_pt, Jet_genIdx)
    cuts: pt > 0
    order_by: index
features: [pt]
""")
    )
    np.testing.assert_array_equal(events.values_of("pt"), [20, 50, 30, 15, 80])
    np.testing.assert_array_equal(events.counts, [3, 0, 0, 2])
    assert events.schema.collections == ("constituent",)


def test_none_is_missing_like_any_other_value(file: Path, card_of: CardOf) -> None:
    text = CARD.replace("take(GenPart_pt, genPartIdx, 0)", "take(GenPart_pt, genPartIdx)")
    assert refused(card_of(text)) == (
        "a.root:Events: entry 1: genPt of muon is nan (1 such in this chunk); cut such particles away with "
        "cuts: isfinite(genPt) for muon, or write where(isfinite(x), x, 0) with take(GenPart_pt, "
        "genPartIdx) as x"
    )
    cut = text.replace("!= 25", "!= 25 and isfinite(genPt)")
    np.testing.assert_array_equal(events_of(card_of(cut)).values_of("genPt"), [30, 20, 70, 15])
    x = "take(GenPart_pt, genPartIdx)"
    filled = text.replace(x, f'"where(isfinite({x}), {x}, 0)"')
    np.testing.assert_array_equal(events_of(card_of(filled)).values_of("genPt"), [30, 20, 0, 70, 15])
    observed = events_of(card_of(CARD + "observers: {best: 'first(take(GenPart_pt, Muon_genPartIdx))'}"))
    np.testing.assert_array_equal(observed.observers["best"], [30, math.nan, math.nan, 15])


@pytest.mark.parametrize("position", [4, -2, -999, 9999])
def test_positions_outside_are_refused(tmp_path: Path, card_of: CardOf, position: int) -> None:
    index = MUON_GEN.copy()
    index[4] = position
    write_ttree(tmp_path / "a.root", columns() | {"Muon_genPartIdx": jagged(N_MUON, index)})
    card = card_of(CARD, "selection=event != 7", "particles.muon.cuts={}")
    assert refused(card).startswith(
        "card.yaml:10: particles.muon.features.genPt: a.root:Events: entry 3: "
        f"in 'take(GenPart_pt, genPartIdx, 0)': position {position} among 4 particles (1 such in this chunk)"
        "; if it means none, write missing: "
        f"{{BRANCH: {{values: [{position}], replace: -1}}}} for the branch of positions"
    )
    remedy = f"missing={{Muon_genPartIdx: {{values: [{position}], replace: -1}}}}"
    np.testing.assert_array_equal(events_of(card_of(CARD, remedy)).values_of("genPt"), [30, 20, 0, 0, 15])


# --- lists of lists --------------------------------------------------------------------------------

NESTED = """
name: nested
samples: [{name: s, files: a.root, class: a}]
labels: [a]
particles:
  jet:
    branches: Jet_{}
    cuts: count(trackPt) > 0
    features: {x: sum(trackPt), n: count(trackPt > 2)}
features: [pt, x, n]
globals: {all: sum(sum(Jet_trackPt)), best: max(max(Jet_trackPt))}
"""


@pytest.fixture
def nested(tmp_path: Path) -> Path:
    tracks = ak.Array([[[1, 2, 3.0], [], [4]], [[5.0, 6]], [[7.0]]])
    flat = {"pt": [20.0, 40, 30, 50, 60], "eta": [0.0] * 5, "phi": [0.0] * 5, "mass": [1.0] * 5}
    jets = {f"Jet_{n}": jagged(np.array([3, 1, 1]), np.array(v)) for n, v in flat.items()}
    event = {"event": np.arange(3), "Jet_trackPt": tracks}
    return write_rntuple(tmp_path / "a.root", jets | event)


def test_lists_of_particles_are_reduced_particle_by_particle(nested: Path, card_of: CardOf) -> None:
    events = events_of(card_of(NESTED))
    np.testing.assert_array_equal(events.values_of("pt"), [30, 20, 50, 60])  # without the jet without tracks
    np.testing.assert_array_equal(events.values_of("x"), [4, 6, 11, 7])
    np.testing.assert_array_equal(events.values_of("n"), [1, 1, 2, 1])
    np.testing.assert_array_equal(events.globals, [[10, 4], [11, 6], [7, 7]])


@pytest.mark.parametrize(
    ("key", "expression", "found", "remedy"),
    [
        ("globals.all", "sum(Jet_trackPt)", "is one value per particle", "sum(sum(Jet_trackPt))"),
        ("globals.all", "count(Jet_trackPt)", "is one value per particle", "sum(count(Jet_trackPt))"),
        (
            "globals.all",
            "Jet_trackPt",
            "is a list per particle (var * var * float64)",
            "sum(sum(Jet_trackPt))",
        ),
        ("globals.all", "jet", "is particles", "count(jet)"),
        (
            "particles.jet.features.x",
            "trackPt",
            "trackPt in a.root:Events holds var * var * float64",
            "sum(trackPt)",
        ),
    ],
)
def test_lists_that_are_not_reduced_are_refused(
    nested: Path, card_of: CardOf, key: str, expression: str, found: str, remedy: str
) -> None:
    line = next(i for i, t in enumerate(NESTED.splitlines(), 1) if f"{key.rpartition('.')[2]}: sum" in t)
    before = "sum(sum(Jet_trackPt))" if key == "globals.all" else "sum(trackPt)"
    text = refused(card_of(NESTED.replace(before, expression, 1)))
    assert text.startswith(f"card.yaml:{line}: {key}")
    assert found in text
    assert f"write for example {remedy}" in text
    assert len(events_of(card_of(NESTED.replace(before, remedy, 1)))) == 3


def test_momenta_that_are_lists_of_lists_are_refused(nested: Path, card_of: CardOf) -> None:
    own = NESTED.replace("(trackPt", "(Jet_trackPt")
    branches = "{pt: Jet_trackPt, eta: Jet_eta, phi: Jet_phi, mass: Jet_mass}"
    text = refused(card_of(own, f"particles.jet.branches={branches}"))
    assert "Jet_trackPt in a.root:Events holds var * var * float64" in text
    remedy = branches.replace("Jet_trackPt", "sum(Jet_trackPt)")
    tracks = events_of(card_of(own, f"particles.jet.branches={remedy}"))
    np.testing.assert_array_equal(tracks.values_of("pt"), [6, 4, 11, 7])


# --- 64 bits ---------------------------------------------------------------------------------------


def test_whole_numbers_are_exact_everywhere(file: Path, card_of: CardOf) -> None:
    numbers = columns()["event"]
    events = events_of(card_of(CARD + "observers: {number: event, odd: event % 2, twice: 2.0 * event}"))
    np.testing.assert_array_equal(events.event, numbers)
    np.testing.assert_array_equal(events.observers["number"], numbers)
    assert events.observers["number"].dtype == np.int64
    assert events.observers["odd"].tolist() == [0, 1, 1, 1]
    assert events.observers["twice"].dtype == np.float64
    kept = events_of(card_of(CARD, "selection=event % 2 == 1 or event == 9007199254740992"))
    np.testing.assert_array_equal(kept.event, numbers)
    missing = "missing={event: {values: [9007199254740993], replace: 5}}"
    np.testing.assert_array_equal(events_of(card_of(CARD, missing)).event, [2**53, 5, 7, 2**63 - 1])


@pytest.mark.parametrize(
    "remedy",
    [
        "missing: {event: {values: [18446744073709551615], replace: 0}}",
        "{new_variables: {number: event % 1000000007}, identity: {event: number}}",
        "{new_variables: {number: 'where(event < 2**63, event, 0)'}, identity: {event: number}}",
    ],
)
def test_numbers_beyond_63_bits(tmp_path: Path, card_of: CardOf, remedy: str) -> None:
    numbers = np.array([1, 2, 3, 2**64 - 1], dtype=np.uint64)
    write_ttree(tmp_path / "a.root", columns() | {"event": numbers})
    assert refused(card_of(CARD)).startswith(
        "card.yaml:2: identity.event: a.root:Events: entry 3: event is 18446744073709551615, which does not "
        "fit into a signed 64-bit integer; if that means missing, write missing: {event: {values: "
        "[18446744073709551615], replace: 0}}, else event % 1000000007, say, as a new variable "
        "NAME, and identity: {event: NAME}"
    )
    lines = remedy.strip("{}").replace("}, identity", "}\nidentity") if remedy.startswith("{") else remedy
    expected = 582344007 if "%" in remedy else 0
    for chunk in (1, 100):
        events = read(
            card_of(f"{CARD}{lines}{'}' * (lines.count('{') - lines.count('}'))}\n"), chunk=chunk
        ).events
        np.testing.assert_array_equal(events.event, [1, 2, 3, expected])


def test_observers_beyond_63_bits(tmp_path: Path, card_of: CardOf) -> None:
    write_ttree(tmp_path / "a.root", columns() | {"id": np.array([1, 2, 3, 2**63], dtype=np.uint64)})
    text = refused(card_of(CARD + "observers: {id: id}"))
    assert "observers.id: a.root:Events: entry 3: id is 9223372036854775808, which does not fit" in text
    observed = events_of(card_of(CARD + "observers: {id: id % 1000000007}"))
    assert observed.observers["id"].tolist() == [1, 2, 3, 2**63 % 1000000007]
    text = refused(card_of(CARD + "observers: {id: id}\nmissing: {id: {values: [3], replace: 0}}"))
    assert "missing.id.values: id of a.root:Events holds 9223372036854775808, too" in text
    both = "observers: {id: id}\nmissing: {id: {values: [3, 9223372036854775808], replace: -1}}"
    assert events_of(card_of(CARD + both)).observers["id"].tolist() == [1, 2, -1, -1]
