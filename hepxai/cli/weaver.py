"""Command ``weaver``: a run of a network that weaver trained."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepxai.cli.options import Events, Method, NewFolder, Split, With, method_settings
from hepxai.cli.program import ExplainingCommand, app, plain_errors
from hepxai.cli.run import write_results

Data = Annotated[Path, typer.Argument(help="Data config of the training (YAML).")]
Network = Annotated[Path, typer.Argument(help="Python file with get_model(data_config); it is executed.")]
Weights = Annotated[Path, typer.Argument(help="State dict, such as net_best_epoch_state.pt.")]
Files = Annotated[list[Path], typer.Argument(help="ROOT files.")]


@app.command("weaver", cls=ExplainingCommand)
def weaver(
    data: Data,
    network: Network,
    weights: Weights,
    files: Files,
    out: NewFolder,
    method: Method = None,
    options: With = None,
    split: Split = "test",
    events: Events = None,
) -> None:
    """Explain a network that weaver trained: read, score, explain, write friend trees and the report."""
    with plain_errors(out):
        from hepxai.explainers.methods import validated_settings
        from hepxai.models.wrappers.weaver import read_weaver
        from hepxai.run import Run

        settings = method_settings(options)
        validated_settings(method, settings, "graph", split=split, maximum=events)
        training = read_weaver(data, network, weights, files)
        run = Run.start(out, training.dataset, model=training.model)
        run.dry_run(method, settings)
        run.train()
        run.explain(method, split=split, maximum=events, settings=settings)
        write_results(run)
