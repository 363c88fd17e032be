"""Towers of two calorimeters around the axis of a jet."""

from __future__ import annotations

import numpy as np

from hepxai.core.jagged import IntArray
from hepxai.simulate.collection import BoolArray, Collection, FloatArray, wrapped
from hepxai.simulate.generator import EventRecord
from hepxai.simulate.jet_images.settings import Calorimeter, Towers
from hepxai.simulate.jets import Constituents
from hepxai.simulate.response import relative_resolution, smearing
from hepxai.simulate.truth import ELECTRON, MUON, PHOTON, has_quark, kinematics


def calorimeters(
    record: EventRecord, inside: Constituents, jets: Collection, towers: Towers, rng: np.random.Generator
) -> dict[str, Collection]:
    """Towers of the electromagnetic ("Em") and the hadron calorimeter ("Had"), one jet per event.

    Photons and electrons deposit all their energy in the first, hadrons in the second, muons nothing.

    Returns
    -------
    dict of str to Collection
        Columns ``row`` (eta), ``column`` (phi), ``pt`` [GeV], ``fromB`` (more than half of the energy is that
        of decay products of b hadrons).
    """
    particles = kinematics(record, inside.particle)
    code = np.abs(particles["id"])
    em, muon = (code == PHOTON) | (code == ELECTRON), code == MUON
    event = jets.event[inside.jet]
    offset = {
        "row": particles["eta"] - jets["eta"][inside.jet],
        "column": wrapped(particles["phi"] - jets["phi"][inside.jet]),
    }
    place = {k: np.floor(v / towers.width + towers.number / 2).astype(np.int64) for k, v in offset.items()}
    covered = np.all([(p >= 0) & (p < towers.number) for p in place.values()], axis=0)
    tower = (event * towers.number + place["row"]) * towers.number + place["column"]
    energy, pt = record.energy[inside.particle], particles["pt"]
    of_b = from_b(record)[inside.particle]
    read = {"Em": (em, towers.em), "Had": (~(em | muon), towers.had)}
    return {
        name: _read_out(
            tower[m := member & covered], energy[m], pt[m], of_b[m], towers.number, calorimeter, jets, rng
        )
        for name, (member, calorimeter) in read.items()
    }


def _read_out(
    tower: IntArray,
    energy: FloatArray,
    pt: FloatArray,
    of_b: BoolArray,
    number: int,
    calorimeter: Calorimeter,
    jets: Collection,
    rng: np.random.Generator,
) -> Collection:
    """Measured towers above the threshold, in order."""
    place, index = np.unique(tower, return_inverse=True)
    weights: tuple[FloatArray, ...] = (energy, pt, pt * of_b)
    total, sum_pt, b_pt = (np.bincount(index, w, len(place)).astype(np.float64) for w in weights)
    factor = smearing(rng, relative_resolution(total, np.zeros(len(place)), [calorimeter.resolution]))
    measured = np.round(sum_pt * factor / calorimeter.step) * calorimeter.step
    rest, column = np.divmod(place, number)
    event, row = np.divmod(rest, number)
    columns = {"row": row, "column": column, "pt": measured, "fromB": b_pt > sum_pt / 2}
    return Collection(event, columns, jets.n_events).take(
        measured >= max(calorimeter.pt_min, calorimeter.step)
    )


def from_b(record: EventRecord) -> BoolArray:
    """Mask of the particles that descend from a hadron with a b quark."""
    hadron = has_quark(record.id, 5)
    found = hadron.copy()
    current = record.mother.copy()
    while True:
        found |= hadron[current]
        above = record.mother[current]
        if np.array_equal(above, current):
            return found
        current = above
