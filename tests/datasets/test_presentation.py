"""Entries of data-set cards for figures: bins of the profile, experiment label, expected yields."""

from __future__ import annotations

from pathlib import Path

import pytest
from ntuples import make_columns, write_ttree

from hepxai.cards import CardError
from hepxai.datasets import DatasetCard, read

NO_FILE = "charged_higgs"


@pytest.mark.parametrize(
    ("entries", "message", "remedy"),
    [
        (
            ["focus.edges=[80, 70]"],
            r"focus.edges: edge 70 comes after 80; write the edges in rising order",
            ["focus.edges=[70, 80]"],
        ),
        (["focus.edges=[80]"], "focus.edges: found 1 bin edge", ["focus.edges=[70, 80]"]),
        (
            ["focus.edges=[0, 80]", "focus.scale=log"],
            "focus.edges: edge 0 has no place on a logarithmic axis",
            ["focus.edges=[1, 80]", "focus.scale=log"],
        ),
        (["focus.scale=square"], "focus.scale", ["focus.scale=log"]),
        (
            ["focus={pair: [muon, muon], edges: [1, 2]}"],
            "focus.edges: a profile needs an observer; write observer:",
            ["focus={pair: [muon, muon], observer: ht, edges: [1, 2]}"],
        ),
        (["label={com: -13}"], "label.com", ["label={com: 13}"]),
        (["label={lumi: 0}"], "label.lumi", ["label={lumi: 138}"]),
        (["label={experiment: %s}" % ("x" * 41)], "at most 40", ["label={experiment: CMS}"]),
        (
            ["yields={unit: fb}"],
            r"yields.unit: cross sections need a luminosity in fb⁻¹; write lumi:",
            ["yields={unit: fb, lumi: 138}"],
        ),
        (["yields={unit: fb}"], "or under label:", ["yields={unit: fb}", "label={lumi: 138}"]),
        (
            ["yields={unit: events, lumi: 138}"],
            "weights in events need no luminosity",
            ["yields={unit: events}"],
        ),
        (
            ["yields={unit: events, background_error: -1}"],
            "background_error",
            ["yields={unit: events, background_error: 0.1}"],
        ),
    ],
)
def test_bad_entries_and_their_remedy(entries: list[str], message: str, remedy: list[str]) -> None:
    with pytest.raises(CardError, match=message):
        DatasetCard.find(NO_FILE, entries)
    DatasetCard.find(NO_FILE, remedy)


def test_luminosity_of_the_label_is_the_default() -> None:
    def card(*entries: str) -> DatasetCard:
        return DatasetCard.find(NO_FILE, [*entries])

    assert card().luminosity is None
    assert card("label={lumi: 138}", "yields={unit: pb}").luminosity == 138
    assert card("label={lumi: 138}", "yields={unit: pb, lumi: 300}").luminosity == 300
    assert card().yield_scale == card("yields={unit: events}", "label={lumi: 138}").yield_scale == 1
    assert card("yields={unit: fb, lumi: 138}").yield_scale == 138
    assert card("yields={unit: pb, lumi: 138}").yield_scale == 138_000


@pytest.mark.parametrize(
    ("focus", "message", "remedy"),
    [
        (
            "{edges: [1e6, 2e6]}",
            "focus.edges: no event is inside: x goes from .*; choose edges",
            "{edges: [0, 2e6]}",
        ),
        ("{scale: log}", "focus.scale: x is never above 0, .*; write scale: linear", "{scale: linear}"),
    ],
)
def test_bins_without_events_are_refused_on_reading(
    tmp_path: Path, focus: str, message: str, remedy: str
) -> None:
    """Before a model is trained, not in its report."""
    write_ttree(tmp_path / "x.root", make_columns(50, seed=1))
    observer = "-first(muon.pt)" if "scale" in focus else "first(muon.pt)"
    (tmp_path / "card.yaml").write_text(
        "{name: x, samples: [{name: x, files: x.root}], targets: {n: count(muon)}, "
        "particles: {muon: {branches: 'Muon_{}'}}, features: [pt], focus: "
        f"{{pair: [muon, muon], observer: x}}, observers: {{x: {observer}}}}}"
    )
    entry, _, value = focus.strip("{}").partition(": ")
    with pytest.raises(CardError, match=message):
        read(DatasetCard.find(str(tmp_path / "card.yaml"), [f"focus.{entry}={value}"]))
    entry, _, value = remedy.strip("{}").partition(": ")
    read(DatasetCard.find(str(tmp_path / "card.yaml"), [f"focus.{entry}={value}"]))
