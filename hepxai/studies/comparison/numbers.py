"""Several methods on the same images: their maps, and their agreement."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.attribution import Attribution
from hepxai.core.binning import bin_of
from hepxai.events import Events
from hepxai.explainers.methods import explain
from hepxai.metrics.agreement import AgreementMatrix, agreement_matrix
from hepxai.metrics.pixels import TruthShare, hit_rank_agreement, top_pixel_agreement, truth_share
from hepxai.models.protocols import Model

Maps = Mapping[str, Attribution]


def compare_methods(
    model: Model, events: Events, target: str, methods: Mapping[str, Mapping[str, Any]]
) -> dict[str, Attribution]:
    """Explain the same events with several methods.

    Maps of other models can be put beside them: ``compare_methods(cnn, …) | compare_methods(tree, …)``.

    Parameters
    ----------
    model : Model
    events : Events
    target : str
    methods : mapping
        ``name → settings``. The name is that of the method, unless the settings have a ``method`` of their
        own, as in ``{"IG, grey": {"method": "image_ig", "baseline": 0.5}}``.
    """
    maps = {}
    for name, method_settings in methods.items():
        settings = dict(method_settings)
        maps[name] = explain(model, events, settings.pop("method", name), target=target, **settings)
    return maps


@dataclass(frozen=True)
class MethodComparison:
    """Agreement of methods over a population, all of it and in bins.

    Attributes
    ----------
    methods : tuple of str
    rank, top : AgreementMatrix
        Rank correlation over the lit pixels; share of the k strongest of all pixels in common.
    shares : mapping of str to TruthShare
    k : int
    edges : ndarray, optional
        Of the bins.
    bins : tuple of MethodComparison
        The same in each bin; empty without edges.
    outside : int
        Events in no bin.
    """

    methods: tuple[str, ...]
    rank: AgreementMatrix
    top: AgreementMatrix
    shares: Mapping[str, TruthShare]
    k: int
    edges: NDArray[np.float64] | None = None
    bins: tuple[MethodComparison, ...] = ()
    outside: int = 0

    def __repr__(self) -> str:
        size = f", in {len(self.bins)} bins, {self.outside:,} events outside" if self.bins else ""
        return f"<MethodComparison: {', '.join(self.methods)}; rank correlation, top {self.k}{size}>"

    def rows(self) -> Iterator[dict[str, float | str | int]]:
        """Numbers as a table: one row for each method, and each pair of methods, in each bin."""
        yield from self._own("all", "all")
        for number, part in enumerate(self.bins):
            assert self.edges is not None
            yield from part._own(float(self.edges[number]), float(self.edges[number + 1]))

    def _own(self, low: float | str, high: float | str) -> Iterator[dict[str, float | str | int]]:
        where: dict[str, float | str | int] = {"from": low, "to": high}
        for name, share in self.shares.items():
            for what in ("among_hits", "chance", "of_all"):
                estimate = getattr(share, what)
                numbers = (estimate.value, estimate.error, share.left_out)
                yield where | _row(name, "", f"share_{what}", *numbers)
        for what, matrix in (("rank_correlation", self.rank), (f"top_{self.k}_overlap", self.top)):
            for i, j in zip(*np.triu_indices(len(self.methods), 1), strict=True):
                numbers = (matrix.mean.value[i, j], matrix.mean.error[i, j], matrix.left_out[i, j])
                yield where | _row(self.methods[i], self.methods[j], what, *numbers)


def _row(
    one: str, two: str, what: str, value: Any, error: Any, left_out: Any
) -> dict[str, float | str | int]:
    return {
        "method": one,
        "other": two,
        "what": what,
        "value": float(value),
        "error": float(error),
        "left_out": int(left_out),
    }


def compare(
    maps: Maps,
    *,
    truth: str | None = None,
    k: int = 10,
    quantity: NDArray[np.number] | None = None,
    edges: NDArray[np.float64] | None = None,
) -> MethodComparison:
    """Agreement of maps over pixels with each other and with the truth.

    Parameters
    ----------
    maps : mapping
        ``name → attribution`` of the same events.
    truth : str, optional
        A key of ``events.truth``; there are no shares without.
    k : int
        Strongest pixels that are compared.
    quantity : ndarray, shape [E], optional
        For bins: ``events.targets[:, 0]``, an observer …; NaN leaves an event out.
    edges : ndarray, optional
        Increasing; goes with ``quantity``.

    Raises
    ------
    ValueError
        Without maps, if they explain different events or are no maps over pixels, or if one of ``quantity``
        and ``edges`` is missing.
    """
    if not maps:
        raise ValueError("no maps to compare")
    if (quantity is None) != (edges is None):
        raise ValueError("bins need both, `quantity` and `edges`")
    whole = _compare(maps, truth, k)
    if quantity is None or edges is None:
        return whole
    position = bin_of(np.asarray(quantity, dtype=np.float64), edges)
    parts = tuple(
        _compare({name: m[position == b] for name, m in maps.items()}, truth, k)
        for b in range(len(edges) - 1)
    )
    outside = int(np.count_nonzero(position < 0))
    return MethodComparison(whole.methods, whole.rank, whole.top, whole.shares, k, edges, parts, outside)


def _compare(maps: Maps, truth: str | None, k: int) -> MethodComparison:
    rank = agreement_matrix(maps, hit_rank_agreement)
    top = agreement_matrix(maps, functools.partial(top_pixel_agreement, k=k))
    shares = {} if truth is None else {n: truth_share(m, truth) for n, m in maps.items()}
    return MethodComparison(tuple(maps), rank, top, shares, k)
