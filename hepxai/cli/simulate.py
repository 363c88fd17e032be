"""Command ``simulate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from hepxai.cli.program import app, console, plain_errors


@app.command()
def simulate(
    dataset: Annotated[str, typer.Argument(help="Data set with generator settings (simulate.yaml).")],
    events: Annotated[int, typer.Option("--events", "-n", help="Selected events wanted per sample.")] = 4000,
    workers: Annotated[int, typer.Option(help="Processes; the result does not depend on it.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the ROOT files.")] = None,
    sample: Annotated[list[str] | None, typer.Option(help="Only these samples; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Other seed than that of simulate.yaml.")] = None,
) -> None:
    """Generate events: Pythia (extra `simulate`) or muon patterns. Resumes where it was stopped."""
    folder = out or Path(f"{dataset}-{events}")
    with plain_errors(folder):
        from hepxai.simulate import find_settings
        from hepxai.simulate import simulate as simulate_samples

        settings = find_settings(dataset)
        files = simulate_samples(settings, folder, events, workers=workers, samples=sample, seed=seed)
        for name, file in files.items():
            console.print(f"{name}: {file.selected:,} of {file.generated:,} events selected, {file.path}")
