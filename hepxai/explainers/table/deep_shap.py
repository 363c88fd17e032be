"""DeepSHAP: DeepLIFT against background rows, for networks on the event-level table."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_pre_hook

from hepxai.explainers.background import BackgroundExplainer, PreparedBackground
from hepxai.explainers.base import CannotExplainError
from hepxai.explainers.batches import Batch, Part
from hepxai.explainers.libraries import OneOutput, import_extra, isolated_rng
from hepxai.explainers.methods import register
from hepxai.models.protocols import DifferentiableTable

NOT_LINEAR = tuple(
    f"torch.nn.modules.{name}" for name in ("activation", "pooling", "normalization", "instancenorm", "rnn")
)
"""Files of torch with modules that are not linear."""


@register("deep_shap")
class DeepShap(BackgroundExplainer):
    """DeepLIFT multipliers in the mean over background rows, by shap's DeepExplainer.

    The change of every activation is shared out among its inputs in proportion to their changes
    ("rescale"), layer by layer from the score to the columns [Shrikumar et al., arXiv:1704.02685; Lundberg
    and Lee, arXiv:1705.07874]. The values and the mean score of the rows add up to the score.

    The rule for an activation is attached to its torch module. A function (``torch.relu(x)``) is missed, and
    the values would be wrong without a warning: hence every event is checked to add up. The explanation runs
    on a copy of the model.

    Attributes
    ----------
    tolerance : float
        Largest |residual| of an event, as a share of Σ_f |φ_f| or of the change of the score.
    sample, size, seed, rows
        See `hepxai.explainers.background.BackgroundExplainer`.
    """

    title = "Shapley values of columns, by DeepLIFT (DeepSHAP)"
    short_title = "DeepSHAP"
    needs: ClassVar[type] = DifferentiableTable
    advice = (
        "DeepSHAP sees activations only that are modules of their own (nn.ReLU(), each used once), not "
        "functions (torch.relu); take feature_ig, or kernel_shap"
    )
    tolerance: float = Field(default=0.01, ge=0)

    def engine(self, prepared: PreparedBackground) -> Any:
        """DeepExplainer of shap."""
        shap, rows = import_extra("shap", self.name), torch.as_tensor(prepared.rows)
        model = copy.deepcopy(prepared.model)  # hooks of shap stay on it, also after an error
        modules = called_modules(self.forward(model), rows[:1])
        self._check_modules(modules)
        for module in modules:
            if getattr(module, "inplace", False):
                module.inplace = False  # type: ignore[assignment] # autograd allows no hook on it otherwise
        with isolated_rng():
            return shap.DeepExplainer(OneOutput(self.forward(model), prepared.output, modules), rows)

    def _check_modules(self, modules: list[nn.Module]) -> None:
        """Refuse modules of torch that are not linear and for which shap has no rule."""
        rules = import_extra("shap.explainers._deep.deep_pytorch", self.name).op_handler
        types = {type(m) for m in modules if type(m).__module__.startswith(NOT_LINEAR)}
        if names := {t.__name__ for t in types} - rules.keys():
            no_rule = f"{self.name}: shap has no rule for {', '.join(sorted(names))}"
            raise CannotExplainError(f"{no_rule}; {self.advice}")

    def attribute_batch(self, prepared: PreparedBackground, batch: Batch[Tensor]) -> Part:
        """Signed values."""
        with isolated_rng():
            values = prepared.engine.shap_values(batch.x, check_additivity=False)[..., 0]
        return Part(values=values.astype(float))


def called_modules(score: Callable[[Tensor], Tensor], x: Tensor) -> list[nn.Module]:
    """Leaf modules in call order, each once."""
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
