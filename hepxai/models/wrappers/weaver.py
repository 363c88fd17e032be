"""Networks of weaver (ParticleNet, Particle Transformer …) with their data config and weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from hepxai.core.user_code import run_user_file, user_errors
from hepxai.datasets import DatasetCard
from hepxai.datasets.building import schema_of
from hepxai.models.wrappers.sequence import SequenceModel
from hepxai.models.wrappers.weaver_config import InputGroup, WeaverConfig

FIXED = ("_points", "_vectors")
"""Ends of the names of inputs that give neighbours or pair features."""
FEWEST = 32
"""Slots that are left where a mask allows to cut the padding: neighbour searches need some."""


class WeaverNetwork(nn.Module):
    """A network of weaver behind its standardisation and padding.

    Parameters
    ----------
    network : nn.Module
        Takes the inputs of the groups, ``[B, variables, M]`` each, in their order.
    groups : sequence of InputGroup
    features : sequence of str
        Rows of the inputs ``x`` and ``fixed``, ``[B, F, M]``: physical values.
    """

    def __init__(self, network: nn.Module, groups: Sequence[InputGroup], features: Sequence[str]) -> None:
        super().__init__()
        self.network, self.has_mask = network, any(group.is_mask for group in groups)
        self.inputs = nn.ModuleList(_Input(group, features) for group in groups)
        for module in network.modules():
            if type(module).__name__ == "SequenceTrimmer":  # it leaves fewer slots than neighbours
                module.enabled = False  # type: ignore[assignment]

    def forward(self, x: Tensor, fixed: Tensor, mask: Tensor) -> Tensor:
        """Logits ``[B, O]``; coordinates and four-vectors are from ``fixed``; mask ``[B, M]``."""
        if self.has_mask:
            size = max(int(mask.sum(1).max()) if len(mask) else 0, FEWEST)
            x, fixed, mask = x[..., :size], fixed[..., :size], mask[:, :size]
        logits: Tensor = self.network(*(one(x, fixed, mask) for one in self.inputs))
        return logits


class _Input(nn.Module):
    """One input of the network from the features of the particles."""

    def __init__(self, group: InputGroup, features: Sequence[str]) -> None:
        super().__init__()
        self.group, self.is_fixed = group, group.name.endswith(FIXED)
        self.rows = [] if group.is_mask else [features.index(v.name) for v in group.variables]
        unscaled = (0.0, 1.0, -torch.inf, torch.inf)
        numbers = [
            (*(unscaled if v.center is None else (v.center, v.scale, v.min, v.max)), v.pad_value)
            for v in group.variables
        ]
        self.numbers: Tensor
        self.register_buffer("numbers", torch.tensor(numbers).T[..., None], persistent=False)

    def forward(self, x: Tensor, fixed: Tensor, mask: Tensor) -> Tensor:
        """Input ``[B, variables, M]``."""
        real, x = mask[:, None], fixed if self.is_fixed else x
        if self.group.is_mask:
            return real.to(x.dtype)
        center, scale, low, high, pad = self.numbers
        values = torch.minimum(torch.maximum((x[:, self.rows] - center) * scale, low), high)
        if not self.group.wraps:
            return torch.where(real, values, pad)
        counts = mask.sum(1, keepdim=True)
        again = torch.arange(x.shape[2]) % counts.clamp(min=1)
        wrapped = values.gather(2, again[:, None].expand_as(values))
        return torch.where(counts[..., None] > 0, wrapped, 0.0)


@dataclass(frozen=True)
class Weaver:
    """A data-set card and a model, from the files of a weaver training.

    Attributes
    ----------
    dataset : DatasetCard
        Reads the particles, labels, observers and selection of the data config.
    model : SequenceModel
        Of the same events.
    """

    dataset: DatasetCard
    model: SequenceModel


def read_weaver(
    data: str | Path, network: str | Path, weights: str | Path | None, files: Sequence[str | Path]
) -> Weaver:
    """Read a data config, a network and its weights.

    Variables of inputs ``…_points`` and ``…_vectors`` give neighbours and pair features; ``node_ig`` keeps
    those of the event. The config is read by whitelist: its expressions are translated to those of data-set
    cards, anything else is refused by line. The network file is Python, which is executed.

    Parameters
    ----------
    data : path
        YAML file; the one with automatic standardisation beside it is used if there is one.
    network : path
        Python file with ``get_model(data_config)``.
    weights : path, optional
        State dict, as weaver saves it; None keeps the weights of ``get_model``.
    files : sequence of path
        ROOT files.

    Raises
    ------
    CardError
        A line of the config that is not supported.
    ValueError
        A network file or weights that do not load.
    """
    config = WeaverConfig.load(data)
    card = config.dataset(files)
    module = network_of(network, config)
    if weights is not None:
        load_weights(module, weights)
    schema = schema_of(card)
    model = SequenceModel(
        WeaverNetwork(module, config.groups, schema.features),
        config.outputs,
        schema,
        inputs={"x": schema.features, "fixed": schema.features},
        layout="features_first",
        fixed=("fixed",),
        length=config.length,
    )
    return Weaver(card, model)


def network_of(path: str | Path, config: WeaverConfig) -> nn.Module:
    """Network from ``get_model(data_config)`` of a Python file, which is executed.

    Raises
    ------
    ValueError
        If the file does not run, or gives no network; the message has its line.
    """
    file = Path(path)
    if not file.is_file():
        raise ValueError(f"{file}: no such file; give the Python file of the network")
    module = run_user_file(file)
    if not hasattr(module, "get_model"):
        raise ValueError(f"{file} has no function get_model(data_config)")
    with user_errors(file, "get_model(data_config)"):
        returned = module.get_model(config.data_config())
    network = returned[0] if isinstance(returned, tuple | list) and returned else returned
    if not isinstance(network, nn.Module):
        raise ValueError(f"{file}: get_model returns {type(network).__name__}; a torch module is needed")
    return network


def load_weights(module: nn.Module, path: str | Path) -> None:
    """Load a state dict with ``weights_only=True``, which executes nothing.

    Raises
    ------
    ValueError
        If the file holds anything else, or its names or shapes are not those of the module.
    """
    if not Path(path).is_file():
        raise ValueError(f"{path}: no such file; give the weights, as in net_best_epoch_state.pt")
    try:
        state: Any = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as problem:  # zip, pickle and torch errors
        reason = " ".join(str(problem).split())[:120]
        raise ValueError(
            f"{path}: no weights ({type(problem).__name__}: {reason}…); a pickled model is not loaded, "
            "because that could execute anything: write torch.save(model.state_dict(), path)"
        ) from problem
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ValueError(f"{path}: no state dict; write torch.save(model.state_dict(), path)")
    expected = module.state_dict()
    missing, unknown = ([k for k in a if k not in b] for a, b in ((expected, state), (state, expected)))
    if missing or unknown:
        differences = [
            f"{w} {_first(names)}" for w, names in (("lack", missing), ("have beside", unknown)) if names
        ]
        raise ValueError(f"{path}: these weights are of another network; they {' and '.join(differences)}")
    for name, value in expected.items():
        if value.shape != state[name].shape:
            raise ValueError(
                f"{path}: {name} has the shape {list(state[name].shape)}, the network {list(value.shape)}: "
                "other inputs, classes or options than in the training"
            )
    module.load_state_dict(state)


def _first(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
