"""Momenta and weights that look like a mistake: named by `read` and `check`, with a remedy that works."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ntuples import jagged, write_ttree

from hepxai.datasets import DatasetCard, ReadError, check_card, read
from hepxai.events import Events

CardOf = Callable[..., DatasetCard]
COUNTS = np.tile([2, 0, 3, 1], 25)  # 150 jets
CARD = """
name: odd
samples: [{name: s, files: a.root, class: a}]
labels: [a]
weights: w
missing: {Jet_m: {values: [-1234], replace: 0}}
particles:
  jet:
    branches: Jet_{}
  met:
    branches: {pt: MET_pt, phi: MET_phi}
features: [energy]
"""


def write(folder: Path, component: str, value: float, *, energy: bool = False) -> None:
    """Jets of which every tenth has an odd value; the first event has an odd MET."""
    rng = np.random.default_rng(1)
    n = int(COUNTS.sum())
    names = ("px", "py", "pz", "E") if energy else ("pt", "eta", "phi", "m")
    flat = dict(zip(names, (rng.uniform(low, 60, n) for low in (30, -2, -3, 1)), strict=True))
    if energy:
        flat["E"] = np.sqrt(flat["px"] ** 2 + flat["py"] ** 2 + flat["pz"] ** 2 + 1)
    else:
        flat |= {"eta": flat["eta"] / 30, "phi": flat["phi"] / 20}
    for name in names if component == "all" else (component,):
        if name in flat:
            flat[name][::10] = value
    met = np.full(len(COUNTS), 40.0)
    met[0] = value if component == "MET_pt" else 40
    columns = {"event": np.arange(len(COUNTS)), "w": np.ones(len(COUNTS))}
    columns |= {"MET_pt": met.astype(np.float32), "MET_phi": np.zeros(len(COUNTS), dtype=np.float32)}
    columns |= {f"Jet_{k}": jagged(COUNTS, v.astype(np.float32)) for k, v in flat.items()}
    if energy:
        columns["Jet_m"] = jagged(COUNTS, np.ones(n))
    write_ttree(folder / "a.root", columns)


def quiet(card: DatasetCard) -> Events:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return read(card).events


@pytest.mark.parametrize("units", ["GeV", "MeV"])
@pytest.mark.parametrize(
    ("component", "value", "text", "remedy"),
    [
        ("pt", -999, "pt of jet (Jet_pt) is -999 for 15 of 150 particles", "cuts: pt > 0 for jet"),
        ("pt", -5, "pt of jet (Jet_pt) is -5 for 15 of 150", "cuts: pt > 0 for jet"),
        ("pt", 0, "pt of jet (Jet_pt) is 0 for 15 of 150", "cuts: pt > 0 for jet"),
        ("pt", 1e30, "pt of jet (Jet_pt) is 1e+30 for 15 of 150", "cuts: abs(pt) < 100000 for jet"),
        ("eta", 25, "eta of jet (Jet_eta) is 25 for 15 of 150", "cuts: abs(eta) < 20 for jet"),
        ("phi", -99, "phi of jet (Jet_phi) is -99 for 15 of 150", "cuts: abs(phi) < 7 for jet"),
        ("m", -999, "mass of jet (Jet_m) is -999 for 15", "missing: {Jet_m: {values: [-999], replace: 0}}"),
        ("m", -50, "mass of jet (Jet_m) is -50 for 15", "cuts: mass > -0.01 * energy for jet"),
        ("all", 0, "pt of jet (Jet_pt) is 0 for 15 of 150", "cuts: pt > 0 for jet"),
        ("MET_pt", -999, "pt of met (MET_pt) is -999 for 1 of 100", "selection: met.pt > 0"),
    ],
)
def test_momenta_are_looked_at(
    tmp_path: Path, card_of: CardOf, units: str, component: str, value: float, text: str, remedy: str
) -> None:
    if units == "MeV" and not (component in ("pt", "MET_pt") and value in (-999, 0)):
        pytest.skip("as in GeV")
    write(tmp_path, component, value)
    settings = [f"units={units}", "missing={}"]
    card = card_of(CARD, *settings)
    with pytest.warns(UserWarning, match=re.escape(text)) as caught:
        reading = read(card)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert remedy in message
    assert message in reading.notes
    assert message in check_card(card).warnings
    key, _, entry = remedy.partition(": ")
    place = "particles.jet.cuts" if key == "cuts" else key
    kept = quiet(card_of(CARD, *settings, f"{place}={entry.removesuffix(' for jet')}"))
    left = {"cuts": (100, 135), "missing": (100, 150), "selection": (99, 148)}[key]
    assert (len(kept), kept.is_type("jet").sum()) == left


def test_counts_do_not_depend_on_the_chunk(tmp_path: Path, card_of: CardOf) -> None:
    write(tmp_path, "pt", -999)
    for chunk in (7, 1000):
        with pytest.warns(UserWarning, match="is -999 for 15 of 150 particles"):
            read(card_of(CARD), chunk=chunk)


def test_values_of_different_kinds_are_listed(tmp_path: Path, card_of: CardOf) -> None:
    write(tmp_path, "m", -999)
    text = CARD.replace("  met:", "    cuts: index == 0 or mass > 0\n  met:")
    with pytest.warns(UserWarning, match=r"mass of jet \(where.* is -999 for .*, -50 for .*cuts: mass >"):
        read(
            card_of(
                text,
                "particles.jet.branches={pt: Jet_pt, eta: Jet_eta, phi: Jet_phi, "
                "mass: 'where(Jet_m < 0, where(Jet_pt > 45, Jet_m, -50), Jet_m)'}",
            )
        )


@pytest.mark.parametrize(
    ("component", "value", "text", "cut"),
    [
        ("px", -999, "px of jet (Jet_px) is -999 for 15 of 150", "px != -999"),
        ("E", 5, "mass of jet (Jet_px, Jet_py, Jet_pz) is -", "mass > -0.01 * energy"),
        ("E", 0, "energy of jet (Jet_E) is 0 for 15 of 150", "energy > 0"),
    ],
)
def test_momenta_with_energy(
    tmp_path: Path, card_of: CardOf, component: str, value: float, text: str, cut: str
) -> None:
    write(tmp_path, component, value, energy=True)
    branches = "particles.jet.branches={px: Jet_px, py: Jet_py, pz: Jet_pz, E: Jet_E}"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        read(card_of(CARD, branches))
    assert any(text in str(c.message) and cut in str(c.message) for c in caught)
    assert quiet(card_of(CARD, branches, f"particles.jet.cuts={cut}")).is_type("jet").sum() == 135


def test_energy_beside_mass_and_momentum(tmp_path: Path, card_of: CardOf) -> None:
    """The energy is checked although no feature needs it."""
    write(tmp_path, "E", -999, energy=True)
    branches = "particles.jet.branches={px: Jet_px, py: Jet_py, pz: Jet_pz, E: Jet_E, mass: Jet_m}"
    with pytest.warns(UserWarning, match="energy of jet .Jet_E. is -999 for 15 of 150"):
        read(card_of(CARD, branches, "features=[pt]"))


def test_energies_below_the_momentum_have_a_mass_below_zero(tmp_path: Path, card_of: CardOf) -> None:
    """As in ROOT: E = 5, p = 10 is m = -√75; E(45, -5) = √(45² - 5²)."""
    columns = {"event": np.arange(2), "m_E": np.array([10.01, 5.0]), "w": np.ones(2)}
    columns |= {"m_px": np.array([10.0, 10]), "m_py": np.zeros(2), "m_pz": np.zeros(2)}
    polar = {
        "t_pt": np.full(2, 45.0),
        "t_eta": np.zeros(2),
        "t_phi": np.zeros(2),
        "t_mass": np.array([5.0, -5]),
    }
    write_ttree(tmp_path / "a.root", columns | polar)
    text = """
name: signs
samples: [{name: s, files: a.root, class: a}]
labels: [a]
particles: {m: {branches: "m_{}"}, t: {branches: "t_{}"}}
features: [energy, mass]
observers: {m: m.mass, t: t.energy, pair: "system(m, t).mass"}
"""
    with pytest.warns(UserWarning, match=r"mass of [mt] .* is -"):
        events = read(card_of(text)).events
    expected = [[10.01, np.sqrt(0.2001)], [np.sqrt(2050), 5], [5, -np.sqrt(75)], [np.sqrt(2000), -5]]
    np.testing.assert_allclose(events.particles, expected, rtol=1e-5)
    np.testing.assert_allclose(events.observers["t"], [np.sqrt(2050), np.sqrt(2000)], rtol=1e-6)
    pair = (5 + np.sqrt(2000)) ** 2 - 55**2
    assert events.observers["pair"][1] == pytest.approx(-np.sqrt(-pair))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_momenta_that_are_no_numbers_name_a_cut_that_works(
    tmp_path: Path, card_of: CardOf, value: float
) -> None:
    write(tmp_path, "all", value)
    with pytest.raises(
        ReadError, match=r"pt of jet is (nan|inf) .*cut such particles away with cuts: isfinite\(pt\)"
    ):
        read(card_of(CARD))
    for cut in ("isfinite(pt)", "pt > 0 and pt < 1e5"):
        assert quiet(card_of(CARD, f"particles.jet.cuts={cut}")).is_type("jet").sum() == 135


def test_particles_at_rest_name_a_cut_that_works(tmp_path: Path, card_of: CardOf) -> None:
    write(tmp_path, "all", 0, energy=True)
    branches = "particles.jet.branches={px: Jet_px, py: Jet_py, pz: Jet_pz, E: Jet_E}"
    with pytest.raises(ReadError, match=r"eta of jet is nan .*cuts: isfinite\(eta\) for jet"):
        read(card_of(CARD, branches))
    kept = quiet(card_of(CARD, branches, "particles.jet.cuts=isfinite(eta)"))
    assert kept.is_type("jet").sum() == 135


def test_one_weight_larger_than_all_others(tmp_path: Path, card_of: CardOf) -> None:
    write(tmp_path, "none", 0)
    card = card_of(CARD, "weights=where(event == 17, -1000, w)")
    with pytest.warns(UserWarning, match="n_eff") as caught:
        read(card)
    message = str(caught[0].message)
    assert message.replace(f"{tmp_path}/", "") == (
        "a.root:Events: entry 17 of class 'a' has the weight -1000, more than the other 99 together: n_eff "
        "is 0.81; if it is a mistake, write for example selection: abs(w) < 1000, with the expression of "
        "weights: as w"
    )
    assert message in check_card(card).warnings
    kept = quiet(
        card_of(
            CARD, "weights=where(event == 17, -1000, w)", "selection=abs(where(event == 17, -1000, w)) < 1000"
        )
    )
    assert len(kept) == 99
    assert len(quiet(card_of(CARD))) == 100
