"""Methods that replace pixels with a baseline and score the images again; no gradients."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
from pydantic import BeforeValidator, Field, PositiveInt
from torch import Tensor

from hepxai.core.chunks import image_rows
from hepxai.events import Events
from hepxai.explainers.image.images import Baseline, MapExplainer, PreparedBaseline, baseline_image
from hepxai.models.protocols import HasLocalPart, Imaging

if TYPE_CHECKING:
    from hepxai.models.protocols import LocalPart


def _pair(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else (value, value) if isinstance(value, int) else value


Pair = Annotated[tuple[PositiveInt, PositiveInt], BeforeValidator(_pair)]
"""Number of rows and of columns; one number is both."""


class PerturbationExplainer(MapExplainer):
    """Comparison of an image with copies in which pixels are replaced.

    Attributes
    ----------
    baseline, blur
        Values of replaced pixels; see `hepxai.explainers.image.images.ImageExplainer`.
    """

    baseline: Baseline = 0.0
    blur: float = Field(default=4.0, gt=0)

    def prepare(self, model: Imaging, events: Events, target: str) -> PreparedPerturbation:
        """Compute the baseline."""
        baseline = baseline_image(self.baseline, events)
        return PreparedPerturbation(explainer=self, model=model, target=target, baseline=baseline)


@dataclass(frozen=True, kw_only=True)
class PreparedPerturbation(PreparedBaseline):
    """Perturbation with its baseline."""

    def score(self, x: Tensor) -> Tensor:
        """Target of images ``[B, T, R, C]``, double precision, ``[B]``."""
        images = np.ascontiguousarray(x.numpy(), dtype=np.float32)
        return self.output(torch.as_tensor(self.model.score_image(images)))

    @property
    def local(self) -> LocalPart | None:
        """Local layers of the model, if it has any."""
        return self.model.local_part() if isinstance(self.model, HasLocalPart) else None

    def between(self, x: Tensor, start: Tensor) -> Between:
        """Scorer of images between ``start`` and ``x``, both ``[T, R, C]``."""
        if (local := self.local) is None:
            rows, columns = (torch.arange(n) for n in x.shape[1:])
            return Between(self, rows, columns, x, start)
        # The baseline is constant between the pixels that differ only if it is a number.
        differs = (x != start).any(0) | (not isinstance(self.baseline, float))
        collapsed = local.collapse(differs)
        x, start = (collapsed.of(image).contiguous() for image in (x, start))
        return Between(self, collapsed.rows, collapsed.columns, x, start, (local, collapsed))


@dataclass(frozen=True)
class Between:
    """Scores of images that differ from a baseline only where another image does.

    Rows and columns in constant stretches between the pixels that differ are left out where the model allows;
    see `hepxai.models.image.local`.

    Attributes
    ----------
    prepared : PreparedPerturbation
    rows, columns : Tensor of int64, shape [r], [c]
        Rows and columns of the image that have to be given.
    x, start : Tensor, shape [T, r, c]
        Image and baseline there.
    shortened : tuple of LocalPart and Collapsed, optional
        None if all rows and columns are given.
    """

    prepared: PreparedPerturbation
    rows: Tensor
    columns: Tensor
    x: Tensor
    start: Tensor
    shortened: Any = None

    def score(self, share: Tensor) -> Tensor:
        """Target ``[n]`` of ``start + share * (x - start)``, with ``share [n, r, c]`` between 0 and 1."""
        parts = [self._score(share[n[0] : n[-1] + 1]) for n in image_rows(len(share), tuple(self.x.shape))]
        return torch.cat(parts)

    def _score(self, share: Tensor) -> Tensor:
        images = torch.lerp(self.start, self.x, share[:, None].to(self.x))
        if self.shortened is None:
            return self.prepared.score(images)
        local, collapsed = self.shortened
        outputs: Tensor = local.outputs(images, collapsed)
        return self.prepared.output(outputs).double()
