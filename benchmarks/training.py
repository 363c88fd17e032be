"""An epoch of training and validation against the same network in plain PyG layers and a DataLoader."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch_geometric.loader import DataLoader

from benchmarks.common import PlainGNN, card, cpu_seconds, data_list, show, toy_events
from hepxai.models.network import NetworkModel
from hepxai.training import fit

EVENTS = 8000


def main() -> None:
    """Print CPU seconds per epoch and their ratio."""
    events = toy_events(2 * EVENTS)
    train = events.where("train")
    plain = PlainGNN(NetworkModel.build(card(4), events.schema).network)
    plain.standardise.fit(torch.as_tensor(train.particles))
    optimiser = torch.optim.Adam(plain.parameters(), lr=0.002)
    loader = DataLoader(data_list(train), batch_size=512, shuffle=True)
    validation = DataLoader(data_list(events.where("valid")), batch_size=512)

    def pyg_epoch() -> None:
        plain.train()
        for batch in loader:
            logit = plain(batch.x, batch.edge_index, batch.batch, batch.num_graphs)
            loss = F.binary_cross_entropy_with_logits(logit, batch.y.float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        plain.eval()
        with torch.inference_mode():
            for batch in validation:
                plain(batch.x, batch.edge_index, batch.batch, batch.num_graphs)

    # Two lengths take the set-up out.
    ours = [cpu_seconds(lambda e=e: fit(card(4, epochs=e), events)) for e in (1, 4)]
    ours_epoch = (ours[1] - ours[0]) / 3
    theirs = cpu_seconds(pyg_epoch)
    rows = [
        ("PyG layers + DataLoader", f"{theirs:.2f}", "1.0"),
        (
            "hepxai fit",
            f"{ours_epoch:.2f}",
            f"{theirs / ours_epoch:.1f}",
        ),
    ]
    show(
        f"Training on {EVENTS} events and validation on {EVENTS} more, one thread",
        ("", "CPU s / epoch", "ratio"),
        rows,
    )
