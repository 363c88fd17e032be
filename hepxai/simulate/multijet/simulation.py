"""Multijet events: generation in slices, detector, event selection, weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.chunk import IDENTITY, Chunk, CutFlow, Layout, load_chunk
from hepxai.simulate.collection import Collection, FloatArray
from hepxai.simulate.generator import EventRecord, PythiaSimulation
from hepxai.simulate.jets import Constituents, accepted, find_jets, measure_jets, nearest_jets, tagged_jets
from hepxai.simulate.multijet.generation import Generated, generate_slice
from hepxai.simulate.multijet.normalisation import normalise
from hepxai.simulate.multijet.settings import Detector, MultijetSettings, Selection
from hepxai.simulate.multijet.substructure import energy_fractions, quark_gluon_score, substructure
from hepxai.simulate.multijet.truth import decay_quarks, parton_flavour
from hepxai.simulate.truth import visible


class Multijet(PythiaSimulation[MultijetSettings]):
    """Events of slices of the phase space.

    A chunk has a fixed number of hard processes of its slice. Its ``genWeight`` is Pythia's; it becomes a
    cross section per event when the chunks are put together.
    """

    settings_class = MultijetSettings
    layout = Layout(
        {**IDENTITY, "genWeight": np.float32, "HT": np.float32},
        {
            "Jet": {
                **dict.fromkeys(("pt", "eta", "phi", "mass", "btag", "qgl"), np.float32),
                **dict.fromkeys(("emEF", "hadEF", "muEF"), np.float32),
                "nConstituents": np.int32,
                **dict.fromkeys(("width", "ptD"), np.float32),
                "hadronFlavour": np.int32,
                "partonFlavour": np.int32,
                "fromTop": np.bool_,
            }
        },
    )

    def make(self, index: int) -> Chunk:
        """Generate, reconstruct and select the events of a chunk."""
        number, settings = index % self.cycle, self.settings
        generated = generate_slice(settings.samples[self.sample], number, self.seed(index), settings.veto)
        jets, passed, flow = reconstruct(generated, settings, self.detector_stream(index))
        columns = self.columns(
            index,
            self._first_event(index) + generated.place[passed],
            {"genWeight": generated.record.weight[passed], "HT": jets.sum_pt()[passed]},
            {"Jet": jets.of_events(passed)},
        )
        return Chunk(columns, flow, generated.numbers)

    def _first_event(self, index: int) -> int:
        """Number of the first hard process of the chunk, from 1."""
        sizes = [part.events for part in self.settings.samples[self.sample].slices]
        cycle, part = divmod(index, self.cycle)
        return cycle * sum(sizes) + sum(sizes[:part]) + 1

    def assemble(self, files: Sequence[Path], events: int) -> tuple[Iterable[Chunk], dict[str, Any]]:
        """Chunks with weights in pb; seeds of the first and the last, and normalisation of the slices."""
        slices = normalise([part.name for part in self.details.parts], map(load_chunk, files))
        entries = super().assemble(files, events)[1] | {"slices": slices}
        return _weighted(files, [part["weight_pb"] for part in slices]), entries


def _weighted(files: Sequence[Path], weight_of_slice: Sequence[float]) -> Iterator[Chunk]:
    for index, file in enumerate(files):
        chunk, weight = load_chunk(file), weight_of_slice[index % len(weight_of_slice)]
        weights = (chunk.columns["genWeight"] * weight).astype(np.float32)
        columns = chunk.columns | {"genWeight": weights}
        yield replace(chunk, columns=columns, cutflow=chunk.cutflow.scaled(weight))


def reconstruct(
    generated: Generated, settings: MultijetSettings, rng: np.random.Generator
) -> tuple[Collection, IntArray, CutFlow]:
    """Jets of the selected events, the positions of these events, and the cut flow."""
    record, detector = generated.record, settings.detector
    jets, constituents = find_jets(record, visible(record, detector.jet.constituent), detector.jet.radius)
    measured = tagged_jets(measure_jets(jets, detector.jet, rng), detector.btag, rng)
    good = measured.adding(place=np.arange(len(measured))).take(accepted(measured, detector.jet))
    passed, flow = select(generated, good.counts, good.sum_pt(), settings.selection)
    selected = good.take(np.isin(good.event, passed)).pt_ordered()
    return _details(record, selected, constituents.of(selected["place"]), detector, rng), passed, flow


def _details(
    record: EventRecord, jets: Collection, inside: Constituents, detector: Detector, rng: np.random.Generator
) -> Collection:
    radius = detector.jet.radius
    jets = jets.adding(
        **energy_fractions(record, inside, len(jets), detector.fractions, rng),
        **substructure(record, inside, jets, detector.tracks, rng),
        partonFlavour=parton_flavour(jets, record, radius),
        fromTop=nearest_jets(record, decay_quarks(record), jets, radius),
    )
    return jets.adding(qgl=quark_gluon_score(jets, detector.quark_gluon))


def select(
    generated: Generated, jets: IntArray, ht: FloatArray, selection: Selection
) -> tuple[IntArray, CutFlow]:
    """Positions of the events that pass every step, and the cut flow, which begins with the vetoed events.

    Parameters
    ----------
    generated : Generated
    jets, ht : ndarray, shape [E]
        Number of jets and scalar sum of their pt, of the events that survived the veto.
    selection : Selection
    """
    masks = {
        "not vetoed": np.ones(len(jets), dtype=bool),
        f"at least {selection.jets_min} jets": jets >= selection.jets_min,
        f"HT > {selection.ht_min:g} GeV": ht > selection.ht_min,
    }
    passed, flow = CutFlow.of(masks, generated.record.weight)
    return passed, flow.after("generated", generated.generated)
