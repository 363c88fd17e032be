"""Muon patterns: muons from a flat gun, their flight, fired strips; every event is selected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.simulate.chunk import IDENTITY, Chunk, Columns, CutFlow, Layout, Simulation, Types, load_chunk
from hepxai.simulate.collection import Collection
from hepxai.simulate.spectrometer.digitisation import (
    NO_STRIPS,
    Patches,
    background_strips,
    fired_by,
    muon_strips,
    noise_strips,
    read_out,
    shower_strips,
)
from hepxai.simulate.spectrometer.propagation import Muons, cross_calorimeter, cross_layers
from hepxai.simulate.spectrometer.roads import Roads, with_roads
from hepxai.simulate.spectrometer.settings import MuonGun, SpectrometerSettings

_HIT: Types = {"layer": np.int16, "strip": np.int16, "fromMuon": np.bool_}
_MUON: Types = {"pt": np.float32, "eta": np.float32, "charge": np.int32}
PLAIN = Layout(IDENTITY, {"Hit": _HIT, "Muon": _MUON})
WITH_FAULTS = Layout(
    IDENTITY,
    {
        "Hit": {**_HIT, "fromShower": np.bool_, "fromFault": np.bool_},
        "Muon": _MUON,
        "Fault": dict.fromkeys(("layer", "strip", "layers", "strips"), np.int16),
    },
)


class Spectrometer(Simulation[SpectrometerSettings]):
    """Patterns of fired strips, with the muons behind them; fewer events are the first ones of more."""

    settings_class = SpectrometerSettings
    packages = ("numpy",)

    @property
    def layout(self) -> Layout:
        """Branches; with the truth of showers and faults if any sample has them, with roads if asked for."""
        layout = WITH_FAULTS if self.settings.has_faults else PLAIN
        return with_roads(layout) if self.settings.roads else layout

    def number_of_chunks(self, events: int) -> int:
        """Number of chunks with ``events`` events."""
        return -(-events // self.settings.chunk_events)

    def describe(self, index: int) -> str:
        """Sample and chunk, for messages."""
        return f"sample {self.sample!r}, chunk {index}"

    def make(self, index: int) -> Chunk:
        """Events of a chunk, from a random stream of its own."""
        settings, sample = self.settings, self.settings.samples[self.sample]
        events, layers = settings.chunk_events, settings.layers
        rng = np.random.default_rng([settings.seed, sample.run, index])
        shares = np.array(sample.fractions)
        event = np.repeat(np.arange(events), rng.choice(len(shares), size=events, p=shares / sum(shares)))
        muons = draw_muons(len(event), settings.gun(self.sample), rng)
        tracks = cross_calorimeter(muons, settings.calorimeter, rng.standard_normal((len(event), 3)))
        z, reached = cross_layers(tracks, settings)
        roads = Roads(muon_strips(np.arange(len(event)), z, reached, layers, rng), event)
        background = background_strips(events, settings.background_of(self.sample), layers, rng)
        noise = noise_strips(events, settings.noise, layers, rng)
        shower = shower_strips(event, z, reached, sample.shower, layers, rng)
        hot, dead = (Patches.of(events, patch, layers, rng) for patch in (sample.hot, sample.dead))
        fault = hot.firing(sample.hot.occupancy, rng) if sample.hot else NO_STRIPS
        hits, from_muon = read_out(roads.of_events(), (background, noise, shower, fault), layers)
        strips: Columns = {
            "layer": hits.layer,
            "strip": hits.strip,
            "fromMuon": from_muon,
            "fromShower": fired_by(hits, shower, layers),
            "fromFault": fired_by(hits, fault, layers),
        }
        truth: Columns = {"pt": muons.pt, "eta": muons.eta, "charge": muons.charge}
        if settings.roads:
            strips |= {"muon": roads.muon_of(hits)}
            truth |= roads.ranges()
        objects = {
            "Hit": Collection(hits.event, strips, events).take(~dead.cover(hits)),
            "Muon": Collection(event, truth, events),
            "Fault": _faults(hot if hot.layers else dead),
        }
        columns = self.columns(index, index * events + np.arange(events) + 1, {}, objects)
        return Chunk(columns, _all_selected(events))

    def assemble(self, files: Sequence[Path], events: int) -> tuple[Iterable[Chunk], dict[str, Any]]:
        """Chunks, of the last only its first events."""
        return self._first(files, events), {}

    def _first(self, files: Sequence[Path], events: int) -> Iterator[Chunk]:
        for file in files:
            chunk = load_chunk(file)
            yield chunk if chunk.selected <= events else self.first_events(chunk, events)
            events -= chunk.selected

    def first_events(self, chunk: Chunk, events: int) -> Chunk:
        """First events of a chunk."""
        columns = {name: chunk.columns[name][:events] for name in self.layout.events}
        for name, types in self.layout.collections.items():
            counts = chunk.columns[f"{name}.counts"][:events]
            columns[f"{name}.counts"] = counts
            columns |= {f"{name}.{key}": chunk.columns[f"{name}.{key}"][: counts.sum()] for key in types}
        return Chunk(columns, _all_selected(events))


def _faults(patches: Patches) -> Collection:
    """Rectangle of every event, if there is one."""
    events = len(patches.layer)
    size = {k: np.full(events, getattr(patches, k)) for k in ("layers", "strips")}
    columns = {"layer": patches.layer, "strip": patches.strip, **size}
    return Collection(np.arange(events), columns, events).take(size["layers"] > 0)


def _all_selected(events: int) -> CutFlow:
    return CutFlow.of({"generated": np.ones(events, dtype=bool)}, np.ones(events))[1]


def draw_muons(number: int, gun: MuonGun, rng: np.random.Generator) -> Muons:
    """Muons at the collision point, flat in pt and eta."""
    pt = rng.uniform(*gun.pt, size=number)
    eta = rng.uniform(*gun.eta, size=number)
    charge = np.where(rng.random(number) < gun.positive, 1, -1)
    return Muons(pt, eta, charge.astype(np.int32))
