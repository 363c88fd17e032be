"""Simulated events: Pythia, a parametrised detector, an event selection, NanoAOD-style ROOT files.

Needs the extra ``simulate`` (pythia8mc and fastjet), which is imported only when events are made.
"""

from hepxai.simulate.config import ConfigError, SimulationConfig, load_config
from hepxai.simulate.generator import MissingExtraError
from hepxai.simulate.output import read_provenance
from hepxai.simulate.recipe import OutputExistsError
from hepxai.simulate.run import SampleResult, simulate
from hepxai.simulate.workers import SimulationError, SimulationInterrupted

__all__ = [
    "ConfigError",
    "MissingExtraError",
    "OutputExistsError",
    "SampleResult",
    "SimulationConfig",
    "SimulationError",
    "SimulationInterrupted",
    "load_config",
    "read_provenance",
    "simulate",
]
