"""The ParticleNet that the jetnet library ships: three coordinates of 30 particles, five classes."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from hepxai.core.jagged import offsets_from_counts
from hepxai.events import Events, Schema
from hepxai.explainers import explain
from hepxai.models import SequenceModel
from hepxai.models.wrappers.weaver import load_weights

SPEC = importlib.util.find_spec("jetnet")
FOLDER = Path(str(SPEC.origin)).parent / "evaluation" if SPEC else Path()
WEIGHTS = FOLDER / "fpnd_resources/jetnet/30_particles/pnet_state_dict.pt"
PARTICLES = 30
#: In the order of jetnet's data sets.
CLASSES = ("gluon", "quark", "top", "w", "z")
pytestmark = pytest.mark.skipif(SPEC is None, reason="needs jetnet")


def knn_graph(x: Tensor, k: int, batch: Tensor) -> Tensor:
    """Of torch_cluster, which has no wheel: sender and receiver ``[2, N k]``."""
    distance = ((x[:, None] - x) ** 2).sum(-1)
    distance = distance.masked_fill(batch[:, None] != batch, torch.inf).fill_diagonal_(torch.inf)
    near = distance.topk(k, largest=False)[1]
    return torch.stack([near.flatten(), torch.arange(len(x)).repeat_interleave(k)])


@pytest.fixture(scope="module")
def network() -> Iterator[nn.Module]:
    """The class from its source file, because the library needs more than its wheel, and its weights."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "torch_cluster", SimpleNamespace(knn_graph=knn_graph))
        spec = importlib.util.spec_from_file_location("jetnet_particlenet", FOLDER / "particlenet.py")
        source = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(source)
        network = source._ParticleNet(PARTICLES, 3)
        load_weights(network, WEIGHTS)
        yield network.eval()


@pytest.fixture
def jets(toy: Callable[..., Events]) -> Events:
    """Toy jets of 20 to 30 particles: η and φ from the axis, and the share of the transverse momentum."""
    events = toy(4, seed=2, smallest=20, largest=PARTICLES)
    rng, names = np.random.default_rng(1), ("etarel", "phirel", "ptrel")
    share = rng.exponential(1, events.n_particles)
    share /= np.add.reduceat(share, events.offsets[:-1])[events.parent]
    particles = np.column_stack([*rng.normal(0, 0.1, (2, events.n_particles)), share]).astype(np.float32)
    schema = Schema(names, ("", "", ""), events.schema.types, CLASSES, ("ht", "njet"), ("GeV", ""))
    order = np.lexsort((-share, events.parent))
    assert offsets_from_counts(events.counts)[-1] == len(order)
    return events.replace(schema=schema, particles=particles[order])


def test_shipped_particle_net(network: nn.Module, jets: Events) -> None:
    model = SequenceModel(network, CLASSES, jets.schema, length=PARTICLES, call=lambda m, x, mask: m(x))
    with torch.no_grad():
        expected = network(torch.tensor(jets.padded(PARTICLES)[0]))
    np.testing.assert_allclose(model.logits(jets), expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 1  # trained
    attribution = explain(model, jets[:2], "node_ig", target="top-quark", baseline="zero", steps=24)
    assert attribution.values.shape == (int(jets.counts[:2].sum()), 3)
    assert np.abs(attribution.values).max() > 0.1


def test_weights_of_another_network_are_refused() -> None:
    with pytest.raises(
        ValueError, match=r"weights are of another network; they lack 0.weight, 0.bias and have"
    ):
        load_weights(nn.Sequential(nn.Linear(3, 5)), WEIGHTS)
