"""Which methods are meant where nobody named any, and what is wrong with a wish before it is tried."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from hepxai.events import SPLITS, Events
from hepxai.explainers.base import EXPLAINERS, Explainer, build, configure
from hepxai.models.protocols import HasEdgeWeights, Model

METHODS = {
    "graph": ("attention", "edge_ig", "node_ig", "surrogate"),
    "table": ("feature_ig", "conductance", "tree_shap"),
    "image": ("image_ig", "ram", "soft_tree"),
}
"""By default, for each view of a model; those that a model is not able to are left out."""


@runtime_checkable
class Announces(Protocol):
    """Method that prints its expected cost, or refuses it, before it explains a population."""

    def announce(self, model: Any, events: Events, target: str) -> None:
        """Print the expected cost; raise an error if it exceeds the budget."""


def validated_settings(
    methods: Sequence[str] | None,
    settings: Mapping[str, Mapping[str, Any]],
    view: str,
    *,
    split: str = "test",
    maximum: int | None = None,
) -> dict[str, dict[str, Any]]:
    """Settings of each method. Everything a user can get wrong is checked: before the training, not after."""
    names = METHODS[view] if methods is None else methods
    if split not in SPLITS:
        raise ValueError(f"no split {split!r}; choose one of {', '.join(SPLITS)}")
    if maximum is not None and maximum < 1:
        raise ValueError(f"{maximum} events to explain; at least 1 is needed")
    if idle := settings.keys() - set(names):
        raise ValueError(
            f"settings for {sorted(idle)[0]!r}, which is not among the methods {', '.join(names)}"
        )
    for name in names:
        configure(name, settings.get(name, {}))
    return {name: dict(settings.get(name, {})) for name in names}


def for_run(method: str, model: Model, settings: Mapping[str, Any]) -> Explainer:
    """Configure an explainer for a run, which keeps its result and writes it beside the particles.

    Raises
    ------
    ValueError
        If its maps would not be in the pixels of the image, or a surrogate is asked of several outputs; see
        `hepxai.explainers.base.build` for the rest.
    """
    found = build(method, model, settings)
    if method == "surrogate" and len(model.outputs) > 1:
        raise ValueError(f"a surrogate imitates one logit; the model has {', '.join(model.outputs)}")
    if not getattr(found, "upsample", True):
        raise ValueError(f"a run keeps maps in the pixels of the image; leave out {method}.upsample")
    return found


def is_default_for(method: str, model: Any) -> bool:
    """Whether a method of the defaults is meant for a model.

    A surrogate repeats any model of one logit, but as a graph: by default it stands beside the edges of one.
    """
    if method == "surrogate" and not isinstance(model, HasEdgeWeights):
        return False
    return EXPLAINERS[method].works_on(model)
