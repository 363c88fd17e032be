"""Concepts of a layer: directions, score maps, typical events, importance."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from hepxai.concepts.fidelity import put_back, score_maps
from hepxai.concepts.layers import Chunk, chunks, refuse_negative
from hepxai.concepts.populations import Population, populations
from hepxai.core.estimate import Estimate
from hepxai.core.files import read_tensors, write_tensors
from hepxai.core.fingerprint import fingerprint
from hepxai.core.html import html_table
from hepxai.events import Events
from hepxai.models.protocols import HasLayerCut

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Concepts:
    """Concepts of a layer: directions in its channels, whose scores say where they are.

    Attributes
    ----------
    model : HasLayerCut
    layer : str
    directions : ndarray of float64, shape [K, c]
        Non-negative, of length 1; the concept with the largest mean score first.
    reconstruction : Estimate
        Relative error of the layer on the test events, ``√(Σ w‖A - SP‖² / Σ w‖A‖²)``.
    fidelity : mapping of str to Estimate
        Agreement of the outputs, on the test events, when the reconstruction takes the place of the layer;
        see `hepxai.concepts.fidelity.Reconstruction`.
    settings : mapping
        Everything needed to repeat it (JSON values).
    """

    model: HasLayerCut
    layer: str
    directions: Array
    reconstruction: Estimate
    fidelity: Mapping[str, Estimate]
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.directions)

    def __repr__(self) -> str:
        decisions = f", {self.fidelity['decisions']} equal decisions" if "decisions" in self.fidelity else ""
        return f"<Concepts: {len(self)} of layer {self.layer}, error {self.reconstruction}{decisions}>"

    def _repr_html_(self) -> str:
        figures = {"relative error of the layer": self.reconstruction, **self.fidelity}
        rows = [
            (name, ", ".join(str(e.at(i)) for i in np.ndindex(e.value.shape))) for name, e in figures.items()
        ]
        return html_table(f"{len(self)} concepts of layer {self.layer}", ("on test events", "value"), rows)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the concepts."""
        return tuple(f"concept {k + 1}" for k in range(len(self)))

    # --- events --------------------------------------------------------------------------------

    def scores(self, events: Events, *, upsample: bool = False) -> NDArray[np.float32]:
        """Score maps ``[E, K, h, w]``; all at once, so give a few thousand events at most.

        Parameters
        ----------
        events : Events
        upsample : bool
            In the pixels ``[E, K, R, C]`` of the image (bilinear) in place of the positions of the layer.
        """
        size = events.image_layout().shape[1:]
        parts = [s for _, s in self._scored(events)]
        if not parts:
            return np.zeros((0, len(self), *size), dtype=np.float32)
        if upsample:
            parts = [F.interpolate(s, size=size, mode="bilinear", align_corners=False) for s in parts]
        return torch.cat(parts).float().numpy()

    def mean_scores(self, events: Events) -> Array:
        """Mean of each score map over the positions, ``[E, K]``."""
        parts = [s.double().mean((2, 3)).numpy() for _, s in self._scored(events)]
        return np.concatenate([np.zeros((0, len(self))), *parts])

    def _scored(self, events: Events) -> Iterator[tuple[Chunk, torch.Tensor]]:
        for chunk in chunks(self.model, events, self.layer):
            refuse_negative(self.model, chunk.maps, self.layer)
            yield chunk, score_maps(chunk.maps, torch.as_tensor(self.directions, dtype=chunk.maps.dtype))

    def typical(self, events: Events, number: int = 4, *, least: bool = False) -> NDArray[np.int64]:
        """Rows ``[K, number]`` of the events with the largest mean scores, or the smallest ones."""
        scores = self.mean_scores(events)
        order = np.argsort(scores if least else -scores, axis=0, kind="stable")
        return np.asarray(order[:number].T, dtype=np.int64)

    def importance(self, events: Events, classes: Sequence[str] | None = None) -> Importance:
        """Mean change of the target of each class when a concept is added: ``F(SP) - F(SP - S_k P_k)``.

        The layer is replaced by its reconstruction, so that nothing but the concept changes. The mean is over
        the events of the class, with their signed weights. Its statistical error is that of these events.

        Parameters
        ----------
        events : Events
        classes : sequence of str, optional
            See `hepxai.concepts.populations.populations`; all by default.
        """
        asked = populations(self.model, events, classes)
        means = [self._importance(events[p.where], p) for p in asked]
        value, error = (np.stack([getattr(m, n) for m in means], axis=1) for n in ("value", "error"))
        whole = Estimate(value, error, min(m.n_eff for m in means))
        return Importance(self.names, tuple(p.name for p in asked), tuple(p.target for p in asked), whole)

    def _importance(self, events: Events, population: Population) -> Estimate:
        parts = []
        directions = torch.as_tensor(self.directions)
        for chunk, scores in self._scored(events):
            with torch.no_grad():
                p = directions.to(scores.dtype)
                whole = put_back(scores, p)
                full = population.output(self.model.forward_after(whole, self.layer, chunk.x))
                without = [
                    self.model.forward_after(
                        (whole - put_back(scores[:, [k]], p[[k]])).clamp_min(0), self.layer, chunk.x
                    )
                    for k in range(len(self))
                ]
            parts.append(torch.stack([full - population.output(z) for z in without], 1).double().numpy())
        return Estimate.of(np.concatenate(parts), events.weight)

    # --- files -----------------------------------------------------------------------------------

    def save(self, path: str | Path) -> None:
        """Write to a safetensors file, complete or not at all; the model is stored elsewhere."""
        figures = {"reconstruction": self.reconstruction, **self.fidelity}
        metadata = {
            "layer": self.layer,
            "model": fingerprint(self.model),
            "settings": dict(self.settings),
            "figures": {name: estimate_to_json(e) for name, e in figures.items()},
        }
        write_tensors(path, {"directions": self.directions}, {"concepts": json.dumps(metadata)})

    @staticmethod
    def load(path: str | Path, model: HasLayerCut) -> Concepts:
        """Read a file written by `save`; ``model`` is that of the concepts.

        Raises
        ------
        ValueError
            If the file is damaged, is something else, or is of another model.
        """
        tensors, metadata = read_tensors(path)
        if "concepts" not in metadata:
            raise ValueError(f"{path} holds no concepts")
        stored = json.loads(metadata["concepts"])
        if stored["model"] != fingerprint(model):
            raise ValueError(
                f"{path} has the concepts of another model; load it with that one, or call ice anew"
            )
        figures = {name: estimate_from_json(e) for name, e in stored["figures"].items()}
        reconstruction = figures.pop("reconstruction")
        return Concepts(
            model, stored["layer"], tensors["directions"], reconstruction, figures, stored["settings"]
        )


def estimate_to_json(estimate: Estimate) -> dict[str, Any]:
    """Numbers or nested lists of an estimate of any shape."""
    ends = {} if estimate.interval is None else {"low": estimate.low, "high": estimate.high}
    values = {"value": estimate.value, "error": estimate.error} | ends
    return {k: np.asarray(v).tolist() for k, v in values.items()} | {"n_eff": estimate.n_eff}


def estimate_from_json(stored: Mapping[str, Any]) -> Estimate:
    """Estimate from the output of `estimate_to_json`, possibly read from JSON."""
    value, error, *ends = (
        np.asarray(stored[k], dtype=np.float64) for k in ("value", "error", "low", "high") if k in stored
    )
    return Estimate(value, error, float(stored["n_eff"]), (ends[0], ends[1]) if ends else None)


@dataclass(frozen=True)
class Importance:
    """Importance of each concept for each class.

    Attributes
    ----------
    concepts, classes, targets : tuple of str
        Lengths K, T and T.
    change : Estimate, shape [K, T]
        Mean change of the target when the concept is added, in units of the target.
    """

    concepts: tuple[str, ...]
    classes: tuple[str, ...]
    targets: tuple[str, ...]
    change: Estimate
