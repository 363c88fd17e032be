"""Attributions in the formats of other libraries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import awkward as ak
import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, parents
from hepxai.events import Events

if TYPE_CHECKING:
    from torch_geometric.explain import Explanation


def lists_of_records(attribution: Any) -> ak.Array:
    """Awkward array of an `Attribution`; see `Attribution.to_awkward`."""
    columns = {"value": ak.from_numpy(np.ascontiguousarray(attribution.values))}
    if attribution.axes[0] == "event":
        return ak.zip(columns, depth_limit=1)
    if attribution.error is not None:
        columns["error"] = ak.from_numpy(np.ascontiguousarray(attribution.error))
    if attribution.axes[0] == "pair":
        first = attribution.events.offsets[parents(attribution.offsets)]
        columns |= {end: getattr(attribution.pairs, end) - first for end in ("src", "dst")}
    return ak.unflatten(ak.zip(columns, depth_limit=1), np.diff(attribution.offsets))


def explanation(
    event: Events, axes: tuple[str, ...], values: NDArray[np.floating], ends: tuple[IntArray, IntArray]
) -> Explanation:
    """PyG ``Explanation`` of one event; see `Attribution.to_pyg`.

    Parameters
    ----------
    event : Events
        Of length 1.
    axes : tuple of str
    values : ndarray
    ends : tuple of two ndarray
        Particles of each row of the values: sender and receiver of a pair.
    """
    import torch
    from torch_geometric.explain import Explanation

    if axes not in (("pair",), ("particle",), ("particle", "feature")):
        raise ValueError(f"PyG has no mask for the axes {', '.join(axes)}")
    graph, (src, dst) = event.graph(), ends
    if axes[0] == "pair":
        edges = torch.as_tensor(np.stack([src, dst]))
        return Explanation(x=graph.x, target=graph.y, edge_index=edges, edge_mask=torch.as_tensor(values))
    table = values if values.ndim > 1 else values[:, None]
    mask = np.zeros((event.n_particles, table.shape[1]), dtype=table.dtype)
    mask[src] = table
    node_mask = torch.as_tensor(mask)
    return Explanation(x=graph.x, target=graph.y, edge_index=graph.edge_index, node_mask=node_mask)
