"""Complete particle graphs for torch_geometric."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from hepxai.core.jagged import IntArray, all_pairs, parents

if TYPE_CHECKING:
    from torch_geometric.data import Batch


def complete_graphs(
    x: NDArray[np.float32],
    p4: NDArray[np.float32],
    offsets: IntArray,
    label: IntArray,
    weight: NDArray[np.float64],
) -> Batch:
    """One graph per event with all ordered pairs as edges; see `Events.graph`."""
    import torch
    from torch_geometric.data import Batch

    src, dst, pair_offsets = all_pairs(offsets)
    batch = Batch(
        x=torch.as_tensor(x),
        p4=torch.as_tensor(p4),
        edge_index=torch.as_tensor(np.stack([src, dst])),
        y=torch.as_tensor(label),
        weight=torch.as_tensor(weight),
        batch=torch.as_tensor(parents(offsets)),
        ptr=torch.as_tensor(offsets),
    )
    # Batch.from_data_list would loop over events; this is what it records to take the batch apart again.
    events, zero = torch.arange(len(label) + 1), torch.zeros(len(label), dtype=torch.int64)
    batch._num_graphs = len(label)
    per_particle = dict.fromkeys(("x", "p4"), batch.ptr)
    batch._slice_dict = per_particle | {
        "edge_index": torch.as_tensor(pair_offsets),
        "y": events,
        "weight": events,
    }
    batch._inc_dict = dict.fromkeys(batch._slice_dict, zero) | {"edge_index": batch.ptr[:-1]}
    return batch
