"""Command ``concepts``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepxai.cli.options import Python, RunFolder
from hepxai.cli.program import NetworkCommand, app, console, plain_errors


@app.command(cls=NetworkCommand)
def concepts(
    folder: RunFolder,
    layer: Annotated[
        str | None, typer.Option(help="Convolutional layer behind its ReLU; default: the last one.")
    ] = None,
    number: Annotated[
        str, typer.Option("--concepts", "-k", help="Number of concepts, or auto: compare several numbers.")
    ] = "auto",
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder of the results; default: RUN/concepts.")
    ] = None,
    events: Annotated[int, typer.Option("--events", "-n", help="Use so many events of each split.")] = 1000,
    seed: Annotated[int, typer.Option(help="Of the positions, the start and the random directions.")] = 0,
    python: Python = None,
) -> None:
    """Find what a layer of an image network sees, and which classes depend on it (ICE and TCAV)."""
    target = out or folder / "concepts"
    with plain_errors(target):
        from hepxai.concepts.study import ConceptStudy
        from hepxai.run import Run

        if number != "auto" and not number.isdigit():
            raise ValueError(f"--concepts {number}: a number, or auto")
        run = Run.open(folder, model=python).single()
        if run.card.view != "image":
            raise ValueError(f"{folder} has a model of the {run.card.view}; concepts need a model of images")
        study = ConceptStudy(
            model=run.model,
            train=run.events.where("train"),
            test=run.events.where("test"),
            folder=target,
            layer=layer,
            concepts=None if number == "auto" else int(number),
            maximum=events,
            seed=seed,
        )
        for line in study.run():
            console.print(line, markup=False, highlight=False, soft_wrap=True)
