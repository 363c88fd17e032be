"""DatasetCard: what is refused before any file is opened, and what a dumped card keeps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from ntuples import CARD

import hepxai.datasets.card
from hepxai.cards import CardError, dump_card, load_card
from hepxai.datasets import DatasetCard, read
from hepxai.events.pair_features import PAIR_FEATURES

CardOf = Callable[..., DatasetCard]


def test_cards_know_the_pair_features_without_torch() -> None:
    assert tuple(PAIR_FEATURES) == hepxai.datasets.card.PAIR_FEATURES


def test_short_forms(card_of: CardOf) -> None:
    card = card_of(
        CARD, "selection=count(muon) > 1", "samples.0.files=a.root", "particles.jet.cuts=[pt > 1, pt > 2]"
    )
    assert card.selection == {"count(muon) > 1": "count(muon) > 1"}
    assert card.samples[0].files == ("a.root",)
    assert card.samples[0].weight == "0.5"
    assert list(card.particles["jet"].cuts) == ["pt > 1", "pt > 2"]
    assert card.globals["n_jets"].expression == "count(jet)"
    assert card.globals["ht"].units == "GeV"
    assert card.node_features[-3:] == ("is_muon", "is_jet", "is_met")
    assert card.by_sample


def test_files_are_found_from_anywhere(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    card = load_card(small / "card.yaml", DatasetCard)
    (small / "elsewhere").mkdir()
    monkeypatch.chdir(small / "elsewhere")
    (small / "elsewhere" / "saved.yaml").write_text(dump_card(card))
    saved = load_card("saved.yaml", DatasetCard)
    assert saved == card
    assert len(read(saved).events)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("split={train: .inf}", "split.train: found inf; should be a finite number"),
        ("split={train: .nan}", "split.train: found nan; should be a finite number"),
        ("split={train: 1e308}", "split.train: found 1e+308; should be less than or equal to"),
        ("split={valid: -1}", "split.valid: found -1; should be greater than or equal to 0"),
        ("split={folds: 100000000000000000000}", "found '100000000000000000000'; whole numbers have 64 bits"),
        ("split={folds: 1e20}", "split.folds: found 1e+20; "),
        ("split={folds: 20000}", "split.folds: found 20000; should be less than or equal to 10000"),
        ("weights=.inf", "weights: found inf; write a finite number"),
        ("particles.muon.mass=.inf", "particles.muon.mass: found inf; should be a finite number"),
        ("selektion=a > 1", "selektion: unknown key (did you mean 'selection'?)"),
        ("particles.muon.brnaches=x", "particles.muon.brnaches: unknown key (did you mean 'branches'?)"),
        ("units=TeV", "units: found 'TeV' (did you mean 'MeV'?); should be 'GeV' or 'MeV'"),
        ("samples=[]", "samples: found []; Tuple should have at least 1 item"),
        ("samples.1.name=dy", "samples.1.name: two samples are called 'dy'; rename one"),
        ("samples.1.class=singal", "samples.1.class: no class 'singal' (did you mean 'signal'?)"),
        ("samples.1.class=null", "samples.1: no class; write class: and one of background, signal"),
        ("samples.1.class=background", "labels.signal: no sample has the class 'signal'; add one, or take"),
        ("labels=[]", "labels: no classes; write for example [background, signal]"),
        ("labels={background: nJet > 1, signal: null}", "labels.signal: no condition, but other classes"),
        ("labels={background: nJet > 1, signal: nJet < 2}", "samples.0.class: labels are conditions, so"),
        ("selection=count(muon) >", "selection: in 'count(muon) >': syntax not understood"),
        ("selection={a: conut(muon)}", "a: in 'conut(muon)': no function 'conut' (did you mean 'count'?)"),
        ("particles.muon.branches=Muon_", "particles.muon.branches: found 'Muon_'; a pattern has one {}"),
        ("particles.muon.branches=[]", "particles.muon.branches: no branches; write a pattern such as"),
        ("particles.muon.max=0", "particles.muon.max: found 0; should be greater than or equal to 1"),
        ("particles.muon.features.pt=2", "particles.muon.features.pt: 'pt' is computed from the momenta"),
        ("particles.sum={branches: 'X_{}'}", "particles.sum: 'sum' is a function of expressions; choose"),
        ("particles.b-jet={branches: 'X_{}'}", "particles.b-jet: 'b-jet' is not a name; use letters,"),
        ("new_variables.muon=1", "new_variables.muon: 'muon' is also a particle type; choose another name"),
        ("features=[pt, btga]", "features.1: no feature 'btga' (did you mean 'btag'?); there are energy, px"),
        ("features=[pt, eta, pt]", "features.pt: 'pt' is listed twice; list it once"),
        ("pair_features=[deltar]", "pair_features.0: no pair feature 'deltar' (did you mean 'delta_r'?)"),
        ("split={train: 0, valid: 0}", "split: train and valid are both 0; give train a share, as in"),
        ("split={folds: 3, fold: 3}", "split: fold 3 of 3; folds are numbered 0 to 2"),
        ("missing.Jet_btag=3", "missing.Jet_btag: found 3; should be a mapping, `key: value`"),
    ],
)
def test_refused(card_of: CardOf, override: str, message: str) -> None:
    with pytest.raises(CardError) as error:
        card_of(CARD, override)
    assert message in str(error.value)
    assert str(error.value).startswith((f"override {override!r}: ", str(error.value).split(":")[0]))


def test_errors_point_at_the_line(card_of: CardOf, tmp_path: Path) -> None:
    text = CARD.replace("abs(eta) < 2.4", "abs(eta) <")
    line = text.splitlines().index("    cuts: abs(eta) <") + 1
    with pytest.raises(CardError, match=rf"card.yaml:{line}: particles.jet.cuts: in 'abs\(eta\) <'"):
        card_of(text)
    text = CARD.replace("charge, btag, type]", "charge,\n  btga]")
    line = text.splitlines().index("  btga]") + 1
    with pytest.raises(CardError, match=rf"card.yaml:{line}: features.12: no feature 'btga'"):
        card_of(text)


def test_every_pair_feature_can_be_asked_for(card_of: CardOf) -> None:
    names = ", ".join(PAIR_FEATURES)
    assert card_of(CARD, f"pair_features=[{names}]").pair_features == tuple(PAIR_FEATURES)


words = st.text("abcdefgh_", min_size=1, max_size=8)
expressions = st.sampled_from(["1", "nJet > 2", "count(muon) >= 1 and met.pt > 3", "1e-3 * w"])
missing = st.fixed_dictionaries({"values": st.lists(st.floats()), "replace": st.floats(allow_nan=False)})
quantities = st.fixed_dictionaries({"expression": expressions, "units": st.text()})
shares = st.fixed_dictionaries(
    {"train": st.floats(0.1, 9), "valid": st.floats(0, 9), "seed": st.integers(0, 2**62)}
)
overrides = st.fixed_dictionaries(
    {},
    optional={
        "description": st.text(),
        "units": st.sampled_from(["GeV", "MeV"]),
        "selection": st.dictionaries(words, expressions) | st.lists(expressions) | expressions,
        "new_variables": st.dictionaries(words.map("v_{}".format), expressions),
        "missing": st.dictionaries(words, missing),
        "observers": st.dictionaries(st.text(), expressions),
        "globals": st.dictionaries(words, quantities),
        "split": shares,
        "duplicates": st.sampled_from(["allow", "refuse"]),
    },
)


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(changes=overrides)
def test_a_dumped_card_comes_back_equal(card_of: CardOf, tmp_path: Path, changes: dict[str, object]) -> None:
    card = card_of(CARD)
    card = DatasetCard.model_validate(card.model_dump(by_alias=True) | changes).located(tmp_path)
    (tmp_path / "dumped.yaml").write_text(dump_card(card), encoding="utf-8", newline="")
    assert load_card(tmp_path / "dumped.yaml", DatasetCard) == card


@pytest.mark.parametrize("pattern", ["Muon_{}{foo}", "Muon_{}}", "{Muon_{}", "Muon_{{}}", "{0}_{}", "{}{}"])
def test_patterns_have_no_other_braces(pattern: str, card_of: Callable[..., DatasetCard]) -> None:
    with pytest.raises(CardError, match=r"particles\.muon\.branches: found .* and no other braces"):
        card_of(CARD.replace("Muon_{}", f"'{pattern}'"))
