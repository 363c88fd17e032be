"""Commands on one run: ``demo``, ``run``, ``train``, ``explain``, ``report``, ``flow``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from hepxai.cli.options import (
    Dataset,
    Device,
    Events,
    FlowSplit,
    Folds,
    Method,
    Model,
    NewFolder,
    OptionalModel,
    Python,
    RunFolder,
    Set,
    Split,
    Target,
    Trainings,
    Variation,
    Variations,
    With,
    Workers,
    method_settings,
    read_cards,
    read_dataset_and_model,
    repetition,
)
from hepxai.cli.program import ExplainingCommand, NetworkCommand, app, console, plain_errors

if TYPE_CHECKING:
    from hepxai.run import Run


@app.command(cls=NetworkCommand)
def demo(out: NewFolder = Path("hepxai-demo")) -> None:
    """Train three times on the shipped charged-Higgs sample, explain, vary, write the report."""
    console.print("Charged Higgs → W A(μμ) against a stand-in for tt̄Z, on the shipped sample.")
    run_all(
        "charged_higgs",
        out,
        "transformer_edgeconv",
        overrides=["model.training.epochs=20"],
        options=["surrogate.epochs=10"],
        events=1000,
        trainings=3,
        variations=True,
    )


@app.command("run", cls=ExplainingCommand)
def run_all(
    dataset: Dataset,
    out: NewFolder,
    model: OptionalModel = None,
    python: Python = None,
    overrides: Set = None,
    method: Method = None,
    options: With = None,
    split: Split = "test",
    events: Events = None,
    trainings: Trainings = None,
    folds: Folds = None,
    variations: Variations = False,
    workers: Workers = None,
    device: Device = "cpu",
) -> None:
    """Do everything: read, train, or take a trained model with --model; explain, write friends and report."""
    with plain_errors(out):
        from hepxai.explainers.methods import validated_settings
        from hepxai.run import Run

        if (model is None) == (python is None):
            raise ValueError("give one of the two: a model card, or --model FILE.py:FUNCTION")
        overrides = [*(overrides or ()), *repetition(trainings, folds)]
        settings, (data, card) = method_settings(options), read_dataset_and_model(dataset, model, overrides)
        if card is not None:
            validated_settings(method, settings, card.view, split=split, maximum=events)
        run = Run.start(out, data, card, model=python)
        validated_settings(method, settings, run.card.view, split=split, maximum=events)
        run.dry_run(method, settings)
        run.train(device=device, workers=workers)
        run.explain(method, split=split, maximum=events, settings=settings, workers=workers)
        if variations:
            run.vary(workers=workers)
        write_results(run, workers=workers)


@app.command(cls=NetworkCommand)
def train(
    dataset: Dataset,
    model: Model,
    out: NewFolder,
    overrides: Set = None,
    trainings: Trainings = None,
    folds: Folds = None,
    workers: Workers = None,
    device: Device = "cpu",
) -> None:
    """Train a model and score every event."""
    with plain_errors(out):
        from hepxai.report.performance import figures_of_merit
        from hepxai.run import Run

        overrides = [*(overrides or ()), *repetition(trainings, folds)]
        run = Run.start(out, *read_cards(dataset, model, overrides))
        run.train(device=device, workers=workers)
        Console(width=1000).print(figures_of_merit(run.metrics()))  # as wide as its numbers: none is cut


@app.command(cls=ExplainingCommand)
def explain(
    folder: RunFolder,
    method: Method = None,
    options: With = None,
    target: Target = None,
    python: Python = None,
    split: Split = "test",
    events: Events = None,
    workers: Workers = None,
) -> None:
    """Explain the events of a trained run, with one or more methods."""
    with plain_errors(folder):
        from hepxai.run import Run

        run = Run.open(folder, model=python)
        settings = method_settings(options)
        attributions = run.explain(
            method, split=split, maximum=events, settings=settings, targets=target, workers=workers
        )
        run.friends()
        for name, attribution in attributions.items():
            if method is None or attribution.method in method:
                checks = "  ".join(f"{k} {v:.3g}" for k, v in attribution.checks.items())
                console.print(f"{name}: {len(attribution.events)} events  {checks}", highlight=False)


@app.command(cls=NetworkCommand)
def vary(
    folder: RunFolder,
    variation: Variation = None,
    python: Python = None,
    friends: Annotated[bool, typer.Option(help="Write friend trees of the varied events, too.")] = False,
    workers: Workers = None,
) -> None:
    """Score and explain a run under the systematic variations of its card; rewrite the report."""
    with plain_errors(folder):
        from hepxai.run import Run

        run = Run.open(folder, model=python)
        run.vary(variation, workers=workers)
        write_results(run, variations=friends, workers=workers)


@app.command(cls=NetworkCommand)
def report(folder: RunFolder) -> None:
    """Rewrite friend trees and the report of a run, or the page of a scan."""
    with plain_errors(stopped="; the same command writes the report from the start"):
        if (folder / "scan.json").is_file():
            from hepxai.cli.scan import write_scan_page

            write_scan_page(folder)
        else:
            from hepxai.run import Run

            write_results(Run.open(folder))


@app.command(cls=NetworkCommand)
def flow(folder: RunFolder, split: FlowSplit = "valid") -> None:
    """Show how the predictions of every event changed in the training: page, table and figures.

    The training must have recorded them: --set model.training.record_predictions=true.
    """
    with plain_errors(stopped="; the same command writes the page from the start"):
        from hepxai.run import Run
        from hepxai.studies.instance_flow.numbers import InstanceFlow
        from hepxai.studies.instance_flow.page import write_flow

        recorded = InstanceFlow.read(Run.open(folder).single().folder).where(split)
        page = write_flow(recorded, folder / "flow", title=f"{folder.resolve().name}: {split} events")
        console.print(f"[bold green]page:[/] {page.resolve()}")


def write_results(run: Run, *, variations: bool = False, workers: int | None = None) -> None:
    """Write friend trees, those of varied events where asked for, and the report."""
    from hepxai.report import write_report

    run.friends(variations=variations)
    report = write_report(run, progress=True, workers=run.workers(workers))
    console.print(f"friend trees: {run.folder / 'friends'}")
    console.print(f"[bold green]report:[/] {report.resolve()}")
