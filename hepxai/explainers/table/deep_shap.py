"""DeepSHAP: DeepLIFT against background rows, for networks on the event-level table."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explainers.background import BackgroundExplainer, number
from hepxai.explainers.base import Chunked, register
from hepxai.explainers.libraries import OneOutput, import_extra, isolated_rng
from hepxai.models.protocols import DifferentiableTable
from hepxai.models.target import Target

Array = NDArray[np.float64]


@register("deep_shap")
@dataclass(frozen=True, kw_only=True)
class DeepShap(BackgroundExplainer):
    """DeepLIFT multipliers in the mean over background rows, by shap's DeepExplainer.

    The change of every activation is shared out among its inputs in proportion to what they changed
    ("rescale"), layer by layer from the score to the columns [Shrikumar et al., arXiv:1704.02685; Lundberg
    and Lee, arXiv:1705.07874]. The values and the mean score of the rows add up to the score.

    The rule for an activation hangs on its torch module. One that is called as a function
    (``torch.relu(x)``) is passed by unseen and the values would be wrong without a word: hence it is checked
    for every event, always, that they add up. The explanation runs on a copy of the model.

    Attributes
    ----------
    tolerance : float
        Largest |residual| of an event, as a share of Σ_f |φ_f| or of the change of the score.
    sample, size, seed, rows, expected
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    needs = DifferentiableTable
    tolerance: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        number("tolerance", self.tolerance, 0)

    def attribute(self, model: DifferentiableTable, events: Events, target: str) -> Attribution:
        """Signed values, axes ("event", "feature").

        Raises
        ------
        ArithmeticError
            If they do not add up.
        """
        chunked, output = Chunked.of_table(events), Target.of(model.outputs, target)
        values = np.zeros(events.table()[0].shape)
        tables = chunked.tables(self.name, progress=self.progress)
        explainer: Any = None
        for rows, x in zip(chunked.chunks, tables, strict=True):
            with isolated_rng():
                explainer = explainer or self._explainer(model, output)
                values[rows] = explainer.shap_values(x, check_additivity=False)[..., 0]
        score = output(model.score_table(events.table()[0]))
        found = self.result(values, score, events, target)
        self.must_add_up(found, self.tolerance, ADVICE)
        return found

    def _explainer(self, model: DifferentiableTable, output: Target) -> Any:
        shap, rows = import_extra("shap", self.name), torch.as_tensor(self.background())
        own = copy.deepcopy(model)  # hooks and notes of shap stay on it, also after an error
        parts = called_modules(own.forward_table, rows[:1])
        for part in parts:
            if getattr(part, "inplace", False):
                part.inplace = False  # type: ignore[assignment] # autograd allows no hook on it otherwise
        return shap.DeepExplainer(OneOutput(own.forward_table, output, parts), rows)


ADVICE = (
    "DeepSHAP sees activations only that are modules of their own (nn.ReLU(), each used once), not functions "
    "(torch.relu); take feature_ig, or kernel_shap"
)


def called_modules(score: Callable[[Tensor], Tensor], x: Tensor) -> list[nn.Module]:
    """Modules without modules inside that are called for a batch, in their order, each once."""
    seen: dict[int, nn.Module] = {}

    def note(module: nn.Module, _inputs: Any) -> None:
        if not any(True for _ in module.children()):
            seen[id(module)] = module

    handle = register_module_forward_pre_hook(note)
    try:
        with torch.no_grad():
            score(x)
    finally:
        handle.remove()
    return list(seen.values())
