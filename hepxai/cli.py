"""Command line: from ROOT ntuples to an explained population of events."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hepxai import __version__
from hepxai.cards import CardError, dump_card, find_card, list_cards, load_card, parse_value
from hepxai.datasets import DatasetCard, check_card, draft_card, inspect_file
from hepxai.explain import EXPLAINERS
from hepxai.models.card import ModelCard
from hepxai.run import METHODS, Run, configured

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
EXPECTED = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RuntimeError, ImportError)
"""What the package raises about its input; with HEPXAI_TRACEBACK set the traceback is shown all the same."""

DATASET, MODEL = "charged_higgs", "transformer_edgeconv"
Dataset = Annotated[str, typer.Argument(help="Data-set card: a name of `hepxai cards`, or a path.")]
Model = Annotated[str, typer.Argument(help="Model card: a name of `hepxai cards`, or a path.")]
Folder = Annotated[Path, typer.Option("--out", "-o", help="Run folder; an interrupted run goes on there.")]
RunFolder = Annotated[Path, typer.Argument(help="Folder of a run.")]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        "-s",
        help="Override a card entry, e.g. model.training.epochs=5 or dataset.units=MeV. May be repeated.",
    ),
]
Method = Annotated[
    list[str] | None,
    typer.Option(
        "--method",
        "-m",
        help=f"One of {', '.join(EXPLAINERS)}; may be repeated. Default: {', '.join(METHODS)}.",
    ),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--with", "-w", help="Setting of a method: edge_ig.layer=dynamic_edge_2. May be repeated."),
]
Split = Annotated[str, typer.Option(help="Events to explain: train, valid or test.")]
Events = Annotated[
    int | None, typer.Option("--events", "-n", help="Explain this many events; all by default.")
]
Device = Annotated[str, typer.Option(help="Torch device for the training, e.g. cpu or cuda.")]


@contextmanager
def _plain_errors() -> Iterator[None]:
    """Say what a user can mend in one line, without a traceback."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except EXPECTED as problem:
        if os.environ.get("HEPXAI_TRACEBACK"):
            raise
        Console(stderr=True).print(
            f"[bold red]error:[/] {_escaped(problem)}", highlight=False, soft_wrap=True
        )
        raise typer.Exit(2) from None


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    Console(stderr=True).print(
        f"[bold yellow]warning:[/] {_escaped(message)}", highlight=False, soft_wrap=True
    )


def _escaped(problem: object) -> str:
    text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    return escape(str(text))


def _cards(dataset: str, model: str, overrides: Sequence[str] | None) -> tuple[DatasetCard, ModelCard]:
    groups: dict[str, list[str]] = {"dataset": [], "model": []}
    for override in overrides or ():
        kind, _, rest = override.partition(".")
        if kind not in groups or "=" not in rest:
            raise CardError(f"--set {override}: expected dataset.KEY=VALUE or model.KEY=VALUE")
        groups[kind].append(rest)
    return (
        DatasetCard.find(dataset, groups["dataset"]),
        ModelCard.find(model, groups["model"]),
    )


def _settings(options: Sequence[str] | None) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for option in options or ():
        path, equal, value = option.partition("=")
        method, dot, key = path.partition(".")
        if not (equal and dot):
            raise CardError(f"--with {option}: expected METHOD.SETTING=VALUE")
        found.setdefault(method, {})[key] = parse_value(value, f"--with {option}")
    return found


def _finish(run: Run) -> None:
    from hepxai.report import write_report
    from hepxai.summary import report_content

    run.friends()
    report = write_report(report_content(run), run.folder)
    console.print(f"friend trees: {run.folder / 'friends'}")
    console.print(f"[bold green]report:[/] {report.resolve()}")


@app.command()
def demo(out: Folder = Path("hepxai-demo")) -> None:
    """Train on the shipped charged-Higgs sample, explain the test events, write the report."""
    console.print("Charged Higgs → W A(μμ) against a stand-in for tt̄Z, on the shipped sample.")
    run_all(DATASET, MODEL, out)


@app.command("run")
def run_all(
    dataset: Dataset,
    model: Model,
    out: Folder,
    overrides: Set = None,
    method: Method = None,
    options: Option = None,
    split: Split = "test",
    events: Events = None,
    device: Device = "cpu",
) -> None:
    """Do everything: read, train, explain, write friend trees and the report."""
    with _plain_errors():
        settings = _settings(options)
        configured(method, settings, split=split, maximum=events)
        run = Run.start(out, *_cards(dataset, model, overrides))
        run.train(device=device)
        run.explain(method, split=split, maximum=events, settings=settings)
        _finish(run)


@app.command()
def train(dataset: Dataset, model: Model, out: Folder, overrides: Set = None, device: Device = "cpu") -> None:
    """Train a model and score every event."""
    with _plain_errors():
        run = Run.start(out, *_cards(dataset, model, overrides))
        run.train(device=device)
        for name, row in run.metrics().items():
            figures = "  ".join(f"{k} {v['value']:.4g} ± {v['error']:.2g}" for k, v in row.items())
            console.print(f"{name:>6}: {figures}", highlight=False)


@app.command()
def explain(
    folder: RunFolder,
    method: Method = None,
    options: Option = None,
    split: Split = "test",
    events: Events = None,
) -> None:
    """Explain the events of a trained run, with one or more methods."""
    with _plain_errors():
        run = Run.open(folder)
        found = run.explain(method, split=split, maximum=events, settings=_settings(options))
        run.friends()
        for name in method or found:
            attribution = found[name]
            checks = "  ".join(f"{k} {v:.3g}" for k, v in attribution.checks.items())
            console.print(f"{name}: {len(attribution.events)} events  {checks}", highlight=False)


@app.command()
def report(folder: RunFolder) -> None:
    """Write friend trees and the report of a run anew."""
    with _plain_errors():
        _finish(Run.open(folder))


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="ROOT file, path or URL.")],
    draft: Annotated[Path | None, typer.Option(help="Write a first data-set card here.")] = None,
) -> None:
    """Show the trees and branches of a ROOT file, and draft a card for it."""
    with _plain_errors():
        found = inspect_file(file)
        console.print(found)
        if draft is not None:
            if draft.exists():
                raise FileExistsError(f"{draft} exists; choose another name")
            draft.write_text(draft_card(found), encoding="utf-8")
            console.print(f"card written to {draft}; look through it, then `hepxai check {draft}`")


@app.command()
def check(
    dataset: Dataset,
    overrides: Set = None,
    entries: Annotated[int, typer.Option(help="Entries to read from each sample.")] = 1000,
) -> None:
    """Read a slice of every sample of a data-set card and say what came out."""
    with _plain_errors():
        own = [o.removeprefix("dataset.") for o in overrides or ()]
        console.print(check_card(DatasetCard.find(dataset, own), entries=entries))


@app.command()
def simulate(
    dataset: Annotated[str, typer.Argument(help="Data set with generator settings (simulate.yaml).")],
    events: Annotated[int, typer.Option("--events", "-n", help="Selected events wanted per sample.")] = 4000,
    workers: Annotated[int, typer.Option(help="Processes; the result does not hang on it.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the ROOT files.")] = None,
    sample: Annotated[list[str] | None, typer.Option(help="Only these samples; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Other seed than that of simulate.yaml.")] = None,
) -> None:
    """Generate events with Pythia and the fast detector (extra `simulate`). Goes on where it was stopped."""
    with _plain_errors():
        from hepxai.simulate import simulate as generate

        settings = find_card("datasets", dataset).with_name("simulate.yaml")
        if not settings.is_file():
            raise FileNotFoundError(f"{settings}: this data set has no generator settings")
        folder = out or Path(f"{dataset}-{events}")
        for name, made in generate(
            settings, folder, events, workers=workers, samples=sample, seed=seed
        ).items():
            console.print(f"{name}: {made.selected:,} of {made.generated:,} events selected, {made.path}")


@app.command()
def cards(
    name: Annotated[str | None, typer.Argument(help="Print this card in full.")] = None,
) -> None:
    """List the data-set and model cards, or print one."""
    with _plain_errors():
        if name is not None:
            console.print(_card_text(name), markup=False, highlight=False)
            return
        table = Table("kind", "name", "what it is")
        for kind, card_class in (("datasets", DatasetCard), ("models", ModelCard)):
            for known, path in list_cards(kind).items():  # type: ignore[arg-type]
                table.add_row(kind, known, load_card(path, card_class).description)  # type: ignore[attr-defined]
        console.print(table)


def _card_text(name: str) -> str:
    if name in list_cards("models"):
        return dump_card(ModelCard.find(name))
    return find_card("datasets", name).read_text(encoding="utf-8")


def _version(asked: bool) -> None:
    if asked:
        console.print(f"hepxai {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of torch; small networks gain little from more.")
    ] = 1,
) -> None:
    """Explain machine learning on high-energy-physics events: why does a network call an event signal?"""  # noqa: D400
    # Pinned: sums in another order are other numbers, and idle threads that spin slow each other down.
    torch.set_num_threads(threads)
