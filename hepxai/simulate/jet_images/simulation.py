"""Jet images: generation, the hardest jet, its origin, towers around it."""

from __future__ import annotations

import numpy as np

from hepxai.simulate.chunk import IDENTITY, Chunk, CutFlow, Layout, Types
from hepxai.simulate.generator import PythiaSimulation
from hepxai.simulate.jet_images.origin import from_origin
from hepxai.simulate.jet_images.settings import JetImageSettings
from hepxai.simulate.jet_images.towers import calorimeters
from hepxai.simulate.jets import find_jets
from hepxai.simulate.truth import visible

_TOWER: Types = {"row": np.int8, "column": np.int8, "pt": np.float32, "fromB": np.bool_}


class JetImages(PythiaSimulation[JetImageSettings]):
    """Events whose hardest jet has the wanted origin, with the towers around its axis."""

    settings_class = JetImageSettings
    layout = Layout(
        {**IDENTITY, **dict.fromkeys(("jet_pt", "jet_eta", "jet_mass"), np.float32)},
        {"Em": _TOWER, "Had": _TOWER},
    )

    def make(self, index: int) -> Chunk:
        """Generate, cluster and select the events of a chunk."""
        settings, size = self.settings, self.settings.chunk_events
        record, failures = self.generate(index, size)
        cuts, rng = settings.jet, self.detector_stream(index)
        jets, constituents = find_jets(record, visible(record, cuts.constituent), cuts.radius)
        order = jets.adding(place=np.arange(len(jets))).pt_ordered()
        first = np.unique(order.event, return_index=True)[1]
        lead = order.take(first)
        inside = constituents.of(lead["place"])
        masks = {
            "generated": np.ones(len(lead), dtype=bool),
            f"hardest jet of {cuts.pt[0]:g}-{cuts.pt[1]:g} GeV": (lead["pt"] > cuts.pt[0])
            & (lead["pt"] < cuts.pt[1]),
            f"|eta| < {cuts.abs_eta_max:g}": np.abs(lead["eta"]) < cuts.abs_eta_max,
            "its origin": from_origin(record, lead, settings.samples[self.sample].origin, cuts.radius),
        }
        alive, flow = CutFlow.of(masks, record.weight[lead.event])
        passed = lead.event[alive]
        towers = calorimeters(record, inside, lead, settings.towers, rng)
        columns = self.columns(
            index,
            index * size + passed + 1,
            {f"jet_{k}": lead[k][alive] for k in ("pt", "eta", "mass")},
            {name: collection.of_events(passed) for name, collection in towers.items()},
        )
        return Chunk(columns, flow, {"failures": failures})
