"""Detector hits: particles without momenta, their images, and everything that can be wrong with them."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
import uproot
from ntuples import jagged, make_columns, write_ttree
from rich.console import Console

from hepxai.cards import CardError, dump_card, load_card
from hepxai.datasets import DatasetCard, ReadError, check_card, read
from hepxai.events import Events, Schema
from hepxai.models.image.pixels import Pixels

HITS = """
name: hits
samples: [{name: hits, files: hits.root}]
particles:
  hit:
    branches: Hit_{}
    momenta: none
    features: {layer: layer, strip: strip}
    truth: {fromMuon: fromMuon}
features: [layer, strip]
image:
  rows: {feature: layer, bins: 9}
  columns: {feature: strip, bins: 384}
targets:
  pt: {expression: first(Muon_pt), units: GeV}
"""
CardOf = Callable[..., DatasetCard]


def columns(events: int = 60, seed: int = 1, low: int = 0) -> dict[str, ak.Array]:
    rng = np.random.default_rng(seed)
    counts = rng.integers(low, 30, events)
    total = int(counts.sum())
    return {
        "event": np.arange(events),
        "Hit_layer": jagged(counts, rng.integers(0, 9, total)),
        "Hit_strip": jagged(counts, rng.integers(0, 12, total) * 30),  # repeats on purpose
        "Hit_fromMuon": jagged(counts, rng.random(total) < 0.4),
        "Muon_pt": jagged(muons := rng.integers(0, 2, events), rng.uniform(1, 20, muons.sum())),
    }


def hits_at(layer: list[list[float]], strip: list[list[float]]) -> dict[str, ak.Array]:
    counts = np.array([len(e) for e in layer])
    flat = [np.array([v for e in branch for v in e]) for branch in (layer, strip)]
    own = columns(len(layer))
    return {
        **{k: own[k] for k in ("event", "Muon_pt")},
        "Hit_layer": jagged(counts, flat[0].astype(np.int64)),
        "Hit_strip": jagged(counts, flat[1].astype(np.int64)),
        "Hit_fromMuon": jagged(counts, np.ones(counts.sum(), dtype=bool)),
    }


@pytest.fixture
def hits(tmp_path: Path, card_of: CardOf) -> Callable[..., Events]:
    def read_back(written: dict[str, ak.Array], *overrides: str, chunk: int = 1000) -> Events:
        write_ttree(tmp_path / "hits.root", written)
        return read(card_of(HITS, *overrides), chunk=chunk).events

    return read_back


def slow_images(written: dict[str, ak.Array], *, noise: bool = True) -> np.ndarray:
    images = np.zeros((len(written["event"]), 1, 9, 384), dtype=np.float32)
    names = ("Hit_layer", "Hit_strip", "Hit_fromMuon")
    for e, lists in enumerate(zip(*(written[n].to_list() for n in names), strict=True)):
        for row, column, real in zip(*lists, strict=True):
            if noise or real:
                images[e, 0, row, column] = 1
    return images


@pytest.mark.parametrize("chunk", [7, 1000])
def test_images_are_those_of_a_loop(hits: Callable[..., Events], chunk: int) -> None:
    written = columns()
    events = hits(written, chunk=chunk)
    np.testing.assert_array_equal(events.image(), slow_images(written))
    muon = events.image(where=events.truth["fromMuon"])
    np.testing.assert_array_equal(muon, slow_images(written, noise=False))
    np.testing.assert_array_equal(events[10:20].image(), slow_images(written)[10:20])


def test_a_cut_takes_the_noise_away(hits: Callable[..., Events]) -> None:
    written = columns()
    clean = hits(written, "particles.hit.cuts=fromMuon")
    np.testing.assert_array_equal(clean.image(), slow_images(written, noise=False))
    assert clean.n_particles == ak.sum(written["Hit_fromMuon"])


def test_hits_have_no_momenta_and_keep_the_order_of_the_file(hits: Callable[..., Events]) -> None:
    written = columns()
    events = hits(written)
    assert not events.p4.any()
    np.testing.assert_array_equal(events.values_of("strip"), ak.flatten(written["Hit_strip"]))
    assert events.schema.collections == ("Hit",)


def test_targets_and_no_labels(hits: Callable[..., Events]) -> None:
    written = columns()
    events = hits(written)
    expected = ak.to_numpy(ak.fill_none(ak.firsts(written["Muon_pt"]), np.nan)).astype(np.float32)
    np.testing.assert_array_equal(events.targets[:, 0], expected)
    assert (events.schema.targets, events.schema.target_units) == (("pt",), ("GeV",))
    assert events.schema.classes == ("events",)
    assert not events.label.any()


def test_no_hit_at_all_is_an_empty_image(hits: Callable[..., Events]) -> None:
    events = hits(hits_at([[], [2], []], [[], [9], []]))
    assert events.image().sum(axis=(1, 2, 3)).tolist() == [0, 1, 0]
    nothing = hits(hits_at([[], []], [[], []]))
    assert nothing.image().shape == (2, 1, 9, 384)
    assert nothing.image().sum() == 0


def test_all_pixels_lit(hits: Callable[..., Events]) -> None:
    row, column = np.divmod(np.arange(9 * 384), 384)
    assert hits(hits_at([row.tolist()], [column.tolist()])).image().min() == 1


OUTSIDE = {
    "strip": ([[1], [2, 3]], [[5], [6, 384]], "layer = 3, strip = 384"),
    "layer": ([[1], [2, 9]], [[5], [6, 7]], "layer = 9, strip = 7"),
    "negative": ([[1], [2, -1]], [[5], [6, 7]], "layer = -1, strip = 7"),
}


@pytest.mark.parametrize("case", OUTSIDE)
def test_a_hit_outside(hits: Callable[..., Events], tmp_path: Path, card_of: CardOf, case: str) -> None:
    layer, strip, where = OUTSIDE[case]
    with pytest.raises(ReadError) as error:
        hits(hits_at(layer, strip))
    at = where.replace("layer", "layer (Hit_layer)").replace("strip", "strip (Hit_strip)")
    assert str(error.value) == (
        f"{tmp_path / 'hits.root'}:Events: entry 1: a hit at {at} lies outside the image of 9 rows and 384 "
        "columns, with 1 such in 1 events of this chunk; correct the bins of image:, or write outside: drop "
        "there"
    )
    dropped = read(card_of(HITS, "image.outside=drop"))
    assert dropped.events.image().sum(axis=(1, 2, 3)).tolist() == [1, 1]
    assert dropped.events.n_particles == 2
    assert dropped.cutflow.particle_rows == (("hit", "inside the image", 3, 2),)


def test_the_entry_of_a_later_chunk_is_named(hits: Callable[..., Events]) -> None:
    written = columns(low=1)
    strip = ak.flatten(written["Hit_strip"]).to_numpy().copy()
    strip[ak.sum(ak.num(written["Hit_strip"])[:41])] = 500  # the first hit of entry 41
    written["Hit_strip"] = jagged(ak.num(written["Hit_layer"]).to_numpy(), strip)
    with pytest.raises(ReadError, match=r"entry 41: a hit at .*strip \(Hit_strip\) = 500"):
        hits(written, chunk=10)


def test_values_of_pixels(hits: Callable[..., Events], card_of: CardOf) -> None:
    """The sum of a feature in each pixel, as worked out hit by hit."""
    written = columns(low=1)
    counts = ak.num(written["Hit_layer"]).to_numpy()
    written["Hit_energy"] = jagged(counts, np.random.default_rng(2).uniform(-1, 9, counts.sum()))
    energies = "particles.hit.features={layer: layer, strip: strip, energy_of_hit: energy}"
    with pytest.raises(
        CardError, match=r"write value: energy_of_hit \(and list it under features:\) for its sum"
    ):
        card_of(HITS, energies)
    with pytest.raises(CardError, match=r"image.value: no feature 'energie'.*; there are lit, layer, strip"):
        card_of(HITS, energies, "image.value=energie")
    overrides = (energies, "features=[layer, strip, energy_of_hit]", "image.value=energy_of_hit")
    events = hits(written, *overrides)
    slow = np.zeros((len(events), 1, 9, 384), dtype=np.float64)
    for e in range(len(events)):
        cells = (written[f"Hit_{name}"][e] for name in ("layer", "strip", "energy"))
        for layer, strip, value in zip(*cells, strict=True):
            slow[e, 0, layer, strip] += value
    np.testing.assert_allclose(events.image(), slow, atol=1e-5)
    rows = torch.as_tensor([3, 0, 59])
    np.testing.assert_allclose(Pixels.of(events).take(rows), slow[rows], atol=1e-5)
    assert Schema.from_json(events.schema.to_json()) == events.schema


def test_coordinates_with_edges(hits: Callable[..., Events]) -> None:
    written = columns(low=1)
    edges = "{feature: eta_of_hit, bins: [0, 100, 330.5]}"
    events = hits(
        written,
        "particles.hit.features.eta_of_hit=strip * 1.0",
        "features=[layer, eta_of_hit]",
        f"image.columns={edges}",
        "image.value=lit",
    )
    slow = slow_images(written)[:, :, :, :331]
    halves = [slow[..., :100].max(axis=3), slow[..., 100:].max(axis=3)]
    np.testing.assert_array_equal(events.image(), np.stack(halves, axis=3))


WRONG = [
    (
        "image.rows.feature=layr",
        r"image.rows.feature: no feature 'layr' \(did you mean 'layer'\?\); there are",
    ),
    ("image.rows.bins=0", r"image.rows.bins: layer: an axis needs at least one bin, got 0"),
    ("image.rows.bins=[0, 2, 1]", r"image.rows.bins: layer: bin edges must be two or more, each above"),
    ("image.rows.bins=nine", r"image.rows.bins: found 'nine'"),
    ("image.columns.feature=eta", r"image: no particle type has both layer and eta; declare them"),
    ("image.outside=skip", r"image.outside: found 'skip'; should be 'error' or 'drop'"),
    ("image.row={}", r"image.row: unknown key \(did you mean 'rows'\?\)"),
    ("targets={}", r"labels: no classes; write for example \[background, signal\], or targets:"),
    ("samples.0.class=muon", r"samples.0.class: the card has no labels, so samples have no class"),
    ("particles.hit.momenta=some", r"particles.hit.momenta: found 'some'"),
]


@pytest.mark.parametrize(("override", "message"), WRONG)
def test_a_card_that_makes_no_sense(card_of: CardOf, override: str, message: str) -> None:
    with pytest.raises(CardError, match=message):
        card_of(HITS, override)


def test_what_needs_momenta_says_so(hits: Callable[..., Events]) -> None:
    with pytest.raises(CardError, match=r"particles.hit.order_by: .* has no pt for Hit_\{\}"):
        hits(columns(), "particles.hit.order_by=-pt")
    with pytest.raises(CardError, match=r"particles.hit.branches: no branch .* counts the particles of Hit_"):
        hits(columns(), "particles.hit.features={layer: layer + 1, strip: strip * 1}")
    forgotten = HITS.replace("    momenta: none\n", "").replace("targets:", "  value: lit\ntargets:")
    with pytest.raises(CardError, match=r"found no momenta for Hit_\{\}"):
        read(load_card(_write(hits, forgotten), DatasetCard))


def _write(hits: Callable[..., Events], text: str) -> Path:
    folder = Path(hits(columns()).files[0].rpartition(":")[0]).parent
    (folder / "card.yaml").write_text(text)
    return folder / "card.yaml"


def test_infinite_targets_are_refused(hits: Callable[..., Events]) -> None:
    with pytest.raises(ReadError, match=r"targets: pt \(1 / 0\.0 \* event\) is inf|targets: pt"):
        hits(columns(), "targets={pt: 1 / (event - 3.0)}")


def test_the_card_written_out_is_the_same_card(card_of: CardOf, tmp_path: Path) -> None:
    card = card_of(HITS)
    (tmp_path / "again.yaml").write_text(dump_card(card))
    assert load_card(tmp_path / "again.yaml", DatasetCard) == card


def test_hits_beside_particles(tmp_path: Path, card_of: CardOf) -> None:
    """Muons with momenta and hits without in one card; only hits are drawn."""
    own = columns(50)
    write_ttree(tmp_path / "hits.root", make_columns(50) | {k: own[k] for k in own if k.startswith("Hit")})
    text = HITS.replace("particles:\n", "particles:\n  muon: {branches: 'Muon_{}'}\n")
    both = read(card_of(text, "features=[pt, layer, strip]", "targets={met: MET_pt}")).events
    drawn = both.is_type("hit")
    assert (both.values_of("pt")[~drawn] > 0).all()
    assert not both.values_of("pt")[drawn].any()
    np.testing.assert_array_equal(both.image(), slow_images(own | {"event": np.arange(50)}))


def test_jets_and_muons_are_images_as_well(tmp_path: Path, card_of: CardOf) -> None:
    write_ttree(tmp_path / "hits.root", make_columns(80))
    text = """
name: calorimeter
samples: [{name: hits, files: hits.root, class: all}]
labels: [all]
particles:
  muon: {branches: 'Muon_{}'}
  jet: {branches: 'Jet_{}'}
features: [pt]
image:
  rows: {feature: eta, bins: [-2.5, -1, 0, 1, 2.5]}
  columns: {feature: phi, bins: [-3.2, 0, 3.2]}
  outside: drop
"""
    with pytest.raises(
        CardError, match=r"a muon has pt beside its place: write value: pt for its sum in each"
    ):
        card_of(text)
    summed = read(card_of(text, "image.value=pt")).events
    events = read(card_of(text, "image.value=lit")).events
    np.testing.assert_array_equal(summed.image(), events.image(weight="pt"))
    assert set(np.unique(events.image())) == {0, 1}
    assert events.schema.image is not None
    assert events.schema.image.types == ("muon", "jet")
    muons = events.is_type("muon")
    found = events.image(weight="pt")
    assert found.shape == (80, 2, 4, 2)
    assert found[:, 0].sum() == pytest.approx(events.p4[muons, 0].sum(), rel=1e-5)


def test_the_shipped_patterns() -> None:
    card = DatasetCard.find("muon_patterns")
    events = read(card).events
    counts = np.bincount(events.label).tolist()
    assert dict(zip(events.schema.classes, counts, strict=True)) == {"noise": 1000, "muon": 4000}
    muon = events.label == 1
    assert np.isfinite(events.targets[muon]).all()
    assert np.isnan(events.targets[~muon]).all()
    image = events.image()
    assert image.sum() == events.n_particles  # every strip is read out once
    assert image[muon].mean() > image[~muon].mean()
    assert not events.truth["fromMuon"][~muon[events.parent]].any()
    report = check_card(card, entries=200)
    assert report.warnings == ()
    console = Console(width=120, record=True, file=io.StringIO())
    console.print(report)
    assert "pt (target)" in console.export_text()


def test_memory_of_an_event(hits: Callable[..., Events]) -> None:
    """A hit takes a few tens of bytes: a million patterns fit into memory, their dense images do not."""
    events = hits(columns())
    columns_of_hits = (events.particles, events.p4, events.type, events.index, *events.truth.values())
    assert sum(c.nbytes for c in columns_of_hits) / events.n_particles <= 48


def test_rntuple_and_ttree_agree(tmp_path: Path, card_of: CardOf) -> None:
    written = columns(20)
    with uproot.recreate(tmp_path / "hits.root") as file:
        file.mkrntuple("Events", written)
    np.testing.assert_array_equal(read(card_of(HITS)).events.image(), slow_images(written))
