"""Simulated events: a generator, a parametrised detector, an event selection, NanoAOD-style ROOT files.

Pythia needs the extra ``simulate`` (pythia8mc and fastjet), which is imported only when events are made.
"""

from hepxai.simulate.generator import MissingExtraError
from hepxai.simulate.kinds import find_settings, load_settings
from hepxai.simulate.output import read_provenance
from hepxai.simulate.recipe import OutputExistsError
from hepxai.simulate.run import SampleResult, simulate
from hepxai.simulate.workers import SimulationError, SimulationInterrupted

__all__ = [
    "MissingExtraError",
    "OutputExistsError",
    "SampleResult",
    "SimulationError",
    "SimulationInterrupted",
    "find_settings",
    "load_settings",
    "read_provenance",
    "simulate",
]
