"""Muon patterns: muons from a flat gun, their flight, fired strips; every event is selected."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.simulate.chunk import IDENTITY, Chunk, Columns, CutFlow, Layout, Simulation, load_chunk
from hepxai.simulate.collection import Collection
from hepxai.simulate.spectrometer.digitisation import background_strips, muon_strips, noise_strips, read_out
from hepxai.simulate.spectrometer.propagation import Muons, cross_calorimeter, cross_layers
from hepxai.simulate.spectrometer.roads import Roads, with_roads
from hepxai.simulate.spectrometer.settings import MuonGun, SpectrometerSettings

PLAIN = Layout(
    IDENTITY,
    {
        "Hit": {"layer": np.int16, "strip": np.int16, "fromMuon": np.bool_},
        "Muon": {"pt": np.float32, "eta": np.float32, "charge": np.int32},
    },
)


class Spectrometer(Simulation[SpectrometerSettings]):
    """Patterns of fired strips, with the muons behind them; fewer events are the first ones of more."""

    settings_class = SpectrometerSettings
    packages = ("numpy",)

    @property
    def layout(self) -> Layout:
        """Branches; with the roads of the muons, if the settings ask for them."""
        return with_roads(PLAIN) if self.settings.roads else PLAIN

    def number_of_chunks(self, events: int) -> int:
        """Number of chunks with ``events`` events."""
        return -(-events // self.settings.chunk_events)

    def describe(self, index: int) -> str:
        """Sample and chunk, for messages."""
        return f"sample {self.sample!r}, chunk {index}"

    def make(self, index: int) -> Chunk:
        """Events of a chunk, from a random stream of its own."""
        settings, sample = self.settings, self.settings.samples[self.sample]
        events, fractions = settings.chunk_events, np.array(sample.fractions)
        rng = np.random.default_rng([settings.seed, sample.run, index])
        counts = rng.choice(len(fractions), size=events, p=fractions / sum(sample.fractions))
        event = np.repeat(np.arange(events), counts)
        muons = draw_muons(len(event), settings.muon, rng)
        tracks = cross_calorimeter(muons, settings.calorimeter, rng.standard_normal((len(event), 3)))
        z, reached = cross_layers(tracks, settings)
        roads = Roads(muon_strips(np.arange(len(event)), z, reached, settings.layers, rng), event)
        fired = roads.of_events()
        others = (
            background_strips(events, settings.background, settings.layers, rng),
            noise_strips(events, settings.noise, settings.layers, rng),
        )
        hits, from_muon = read_out(fired, others, settings.layers)
        strips: Columns = {"layer": hits.layer, "strip": hits.strip, "fromMuon": from_muon}
        truth: Columns = {"pt": muons.pt, "eta": muons.eta, "charge": muons.charge}
        if settings.roads:
            strips |= {"muon": roads.muon_of(hits)}
            truth |= roads.ranges()
        objects = {
            "Hit": Collection(hits.event, strips, events),
            "Muon": Collection(event, truth, events),
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


def _all_selected(events: int) -> CutFlow:
    return CutFlow.of({"generated": np.ones(events, dtype=bool)}, np.ones(events))[1]


def draw_muons(number: int, gun: MuonGun, rng: np.random.Generator) -> Muons:
    """Muons at the collision point, flat in pt and eta."""
    pt = rng.uniform(*gun.pt, size=number)
    eta = rng.uniform(*gun.eta, size=number)
    charge = np.where(rng.random(number) < gun.positive, 1, -1)
    return Muons(pt, eta, charge.astype(np.int32))
