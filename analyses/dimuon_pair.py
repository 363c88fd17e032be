"""Whether the network looks at the muon pair, and whether that hangs on its mass.

Trains the shipped model on the charged-Higgs card (or takes the run that is there), explains the test events
and compares what attention and edge Integrated Gradients say of the muon pair. See ``--help``.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from hepxai.cards import dump_card
from hepxai.datasets import DatasetCard
from hepxai.files import write_json
from hepxai.models import ModelCard
from hepxai.plots import focus_profile, style
from hepxai.run import Run

METHODS = ("attention", "edge_ig")


def main() -> None:
    """Train, explain, write ``dimuon_pair.json`` and a figure for each method."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--dataset", default="charged_higgs", help="data-set card, a name or a path")
    parser.add_argument("--out", type=Path, default=Path("dimuon-pair"), help="run folder")
    parser.add_argument("--quick", action="store_true", help="3 epochs instead of 30")
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    card = ModelCard.find("transformer_edgeconv", ["training.epochs=3"] if chosen.quick else [])
    run = Run.start(chosen.out, DatasetCard.find(chosen.dataset), card)
    run.train()
    found = run.explain(METHODS)
    numbers = {}
    for method in METHODS:
        pair = found[method].select(pair=("muon", "muon"))
        for axis in [a for a in pair.axes if a in ("layer", "head")]:
            pair = pair.mean(axis)
        for number, name in enumerate(run.events.schema.classes):
            mean = pair.population(pair.events.label == number)
            numbers[f"{method}, {name}"] = {"value": float(mean.value), "error": float(mean.error)}
            print(f"{method:>10}, {name:<11} mean over muon pairs {mean:.4f}")
        with style():
            figure, ax = plt.subplots(figsize=(8, 6))
            focus_profile(found[method], ("muon", "muon"), "mass_mumu", ax=ax)
            figure.savefig(chosen.out / f"dimuon_pair_{method}.png", bbox_inches="tight")
    write_json(chosen.out / "dimuon_pair.json", {"numbers": numbers, "model": dump_card(card)})


if __name__ == "__main__":
    main()
