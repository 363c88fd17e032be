"""Command line: from ROOT ntuples to an explained population of events."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from typer.core import TyperCommand, TyperOption

from hepxai import __version__
from hepxai.cards import (
    CardError,
    dump_card,
    find_card,
    list_cards,
    load_card,
    nearest,
    parse_value,
    write_schemas,
)
from hepxai.core.console import say
from hepxai.core.files import write_text
from hepxai.datasets import DatasetCard, check_card, draft_card, inspect_file
from hepxai.models.card import ModelCard, keys_of_cards, model_card_classes

if TYPE_CHECKING:
    from hepxai.run import Run

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
    typer.Option("--method", "-m", help="One of {methods}; may be repeated. Default: {default}."),
]
Option = Annotated[
    list[str] | None,
    typer.Option("--with", "-w", help="Setting of a method: edge_ig.layer=dynamic_edge_2. May be repeated."),
]
Split = Annotated[str, typer.Option(help="Events to explain: train, valid or test.")]
Events = Annotated[
    int | None, typer.Option("--events", "-n", help="How many to explain; default: as before, or all.")
]
Device = Annotated[str, typer.Option(help="Torch device for the training, e.g. cpu or cuda.")]


@contextmanager
def _plain_errors(goes_on: str = "") -> Iterator[None]:
    """Say what a user can mend in one line, without a traceback; and what follows on Ctrl-C."""
    try:
        with warnings.catch_warnings():
            warnings.showwarning = _show_warning
            yield
    except EXPECTED as problem:
        if os.environ.get("HEPXAI_TRACEBACK"):
            raise
        _tell("[bold red]error:[/]", problem)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        say(f"stopped{goes_on}")
        raise typer.Exit(130) from None


def _from(folder: Path) -> str:
    return f"; the same command goes on from what is finished in {folder}"


class _Network(TyperCommand):
    """A command that uses torch: imported here and not above, for that takes seconds."""

    def invoke(self, ctx: Any) -> Any:
        """Pin the threads: sums in another order are other numbers, and idle ones that spin slow all down."""
        with _plain_errors():
            import torch

            torch.set_num_threads(ctx.find_root().params["threads"])
        return super().invoke(ctx)


class _Explaining(_Network):
    """A command with ``--method``; its help names the methods, looked up when somebody asks."""

    def format_help(self, *args: Any) -> None:
        from hepxai.explainers import EXPLAINERS
        from hepxai.explainers.defaults import METHODS

        usual = "; ".join(f"{', '.join(own)} ({view})" for view, own in METHODS.items() if own)
        names = {"methods": ", ".join(EXPLAINERS), "default": usual}
        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "method":
                option.help = str(option.help).format_map(names)
        super().format_help(*args)


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    _tell("[bold yellow]warning:[/]", message)


def _tell(label: str, problem: object) -> None:
    text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    Console(stderr=True).print(f"{label} {escape(str(text))}", highlight=False, soft_wrap=True)


def _cards(dataset: str, model: str, overrides: Sequence[str] | None) -> tuple[DatasetCard, ModelCard]:
    groups: dict[str, list[str]] = {"dataset": [], "model": []}
    for override in overrides or ():
        kind, _, rest = override.partition(".")
        if kind not in groups or "=" not in rest:
            wanted = "expected dataset.KEY=VALUE or model.KEY=VALUE"
            raise CardError(f"--set {override}: {wanted}{_meant(override)}")
        groups[kind].append(rest)
    return DatasetCard.find(dataset, groups["dataset"]), ModelCard.find(model, groups["model"])


def _meant(override: str) -> str:
    """Hint for an override that does not say of which card it is."""
    kinds = {"dataset": frozenset(DatasetCard.model_fields), "model": keys_of_cards()}
    head = override.partition("=")[0].partition(".")[0]
    owners = [k for k, keys in kinds.items() if head in keys]
    return f" (did you mean {owners[0]}.{override}?)" if len(owners) == 1 else nearest(head, kinds)


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

    run.friends()
    report = write_report(run, progress=True)
    console.print(f"friend trees: {run.folder / 'friends'}")
    console.print(f"[bold green]report:[/] {report.resolve()}")


@app.command(cls=_Network)
def demo(out: Folder = Path("hepxai-demo")) -> None:
    """Train on the shipped charged-Higgs sample, explain the test events, write the report."""
    console.print("Charged Higgs → W A(μμ) against a stand-in for tt̄Z, on the shipped sample.")
    run_all(DATASET, MODEL, out)


@app.command("run", cls=_Explaining)
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
    with _plain_errors(_from(out)):
        from hepxai.explainers.defaults import validated_settings
        from hepxai.run import Run

        settings, (data, card) = _settings(options), _cards(dataset, model, overrides)
        validated_settings(method, settings, card.view, split=split, maximum=events)
        run = Run.start(out, data, card)
        run.dry_run(method, settings)
        run.train(device=device)
        run.explain(method, split=split, maximum=events, settings=settings)
        _finish(run)


@app.command(cls=_Network)
def train(dataset: Dataset, model: Model, out: Folder, overrides: Set = None, device: Device = "cpu") -> None:
    """Train a model and score every event."""
    with _plain_errors(_from(out)):
        from hepxai.report.performance import figures_of_merit
        from hepxai.run import Run

        run = Run.start(out, *_cards(dataset, model, overrides))
        run.train(device=device)
        Console(width=1000).print(figures_of_merit(run.metrics()))  # as wide as its numbers: none is cut


@app.command(cls=_Explaining)
def explain(
    folder: RunFolder,
    method: Method = None,
    options: Option = None,
    split: Split = "test",
    events: Events = None,
) -> None:
    """Explain the events of a trained run, with one or more methods."""
    with _plain_errors(_from(folder)):
        from hepxai.run import Run

        run = Run.open(folder)
        found = run.explain(method, split=split, maximum=events, settings=_settings(options))
        run.friends()
        for name in (n for n, a in found.items() if method is None or a.method in method):
            attribution = found[name]
            checks = "  ".join(f"{k} {v:.3g}" for k, v in attribution.checks.items())
            console.print(f"{name}: {len(attribution.events)} events  {checks}", highlight=False)


@app.command(cls=_Network)
def report(folder: RunFolder) -> None:
    """Write friend trees and the report of a run anew, or the page of a scan."""
    with _plain_errors("; the same command writes the report from the start"):
        if (folder / "scan.json").is_file():
            _draw_scan(folder)
            return
        from hepxai.run import Run

        _finish(Run.open(folder))


@app.command(cls=_Network)
def scan(
    dataset: Dataset,
    model: Model,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder; an interrupted scan goes on there.")],
    over: Annotated[
        list[str],
        typer.Option(
            help="KEY=VALUE,VALUE,… or, for random and tpe, KEY=LOW..HIGH or KEY=LOW..HIGH:log; KEY is an "
            "entry of the model card, or dataset.KEY. May be repeated."
        ),
    ],
    seeds: Annotated[int, typer.Option(help="Trainings of every point, with seeds 1, 2, …")] = 1,
    objective: Annotated[
        list[str] | None,
        typer.Option(help="What is best: valid_auc (default), pair_attention, …, NAME:min. May be repeated."),
    ] = None,
    sampler: Annotated[str, typer.Option(help="grid, random or tpe.")] = "grid",
    trials: Annotated[int | None, typer.Option(help="Points to try, for random and tpe.")] = None,
    workers: Annotated[int, typer.Option(help="Processes; more may join from other machines.")] = 1,
    prune: Annotated[bool, typer.Option("--prune", help="Stop trainings that are below the median.")] = False,
    overrides: Set = None,
    events: Annotated[
        int, typer.Option("--events", "-n", help="Explain this many validation events.")
    ] = 5000,
    device: Device = "cpu",
) -> None:
    """Train over values of card entries; say which is best, and how sure that is (extra `scan`)."""
    with _plain_errors(_from(out)):
        from hepxai.scan import Scan

        Scan.start(
            out,
            *_cards(dataset, model, overrides),
            over,
            seeds=seeds,
            objectives=objective or ("valid_auc",),
            sampler=sampler,
            trials=trials,
            explain=events,
            prune=prune,
        ).run(workers=workers, device=device)
        _draw_scan(out)


def _draw_scan(folder: Path) -> None:
    from hepxai.scan import Scan, advice, write_scan

    found = Scan.open(folder)
    page = write_scan(found, progress=True)
    for about, sentences in advice(found.table(), found.dataset).items():
        console.print(f"[bold]{escape(about)}[/]")
        for sentence in sentences:
            console.print(f"  {sentence}", markup=False, highlight=False, soft_wrap=True)
    console.print(f"[bold green]scan:[/] {escape(str(page.resolve()))}")


@app.command()
def inspect(
    file: Annotated[str, typer.Argument(help="ROOT file, path or URL.")],
    draft: Annotated[Path | None, typer.Option(help="Write a first data-set card here.")] = None,
    match: Annotated[
        str | None, typer.Option(help="Show only branches of such names, e.g. 'Muon_*'; a draft uses all.")
    ] = None,
) -> None:
    """Show the trees and branches of a ROOT file, and draft a card for it."""
    with _plain_errors():
        if draft is not None:
            _require_new(draft)
        found = inspect_file(file, match=match)
        # What goes through a pipe is searched, not looked at: one line for each branch.
        page = console if console.is_terminal else Console(width=1000)
        page.print(found)
        if draft is not None:
            write_text(draft, draft_card(found if match is None else inspect_file(file)))
            text = f"card written to {draft}; look through it, then `hepxai check {draft}`"
            console.print(text, markup=False, soft_wrap=True)


def _require_new(path: Path) -> None:
    if path.exists():
        raise FileExistsError(f"{path} exists; choose another name")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent} is no folder; make it first, or choose another place")


@app.command()
def check(
    dataset: Dataset,
    overrides: Set = None,
    entries: Annotated[int, typer.Option(min=1, help="Entries to read from each sample.")] = 1000,
) -> None:
    """Read a slice of every sample of a data-set card and say what came out."""
    with _plain_errors():
        own = [o.removeprefix("dataset.") for o in overrides or ()]
        console.print(check_card(DatasetCard.find(dataset, own), entries=entries))


@app.command()
def simulate(
    dataset: Annotated[str, typer.Argument(help="Data set with generator settings (simulate.yaml).")],
    events: Annotated[int, typer.Option("--events", "-n", help="Selected events wanted per sample.")] = 4000,
    workers: Annotated[int, typer.Option(help="Processes; the result does not depend on it.")] = 1,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="Folder for the ROOT files.")] = None,
    sample: Annotated[list[str] | None, typer.Option(help="Only these samples; may be repeated.")] = None,
    seed: Annotated[int | None, typer.Option(help="Other seed than that of simulate.yaml.")] = None,
) -> None:
    """Generate events: Pythia (extra `simulate`) or muon patterns. Interrupted runs resume."""
    folder = out or Path(f"{dataset}-{events}")
    with _plain_errors(_from(folder)):
        from hepxai.simulate import find_settings
        from hepxai.simulate import simulate as simulate_samples

        settings = find_settings(dataset)
        results = simulate_samples(settings, folder, events, workers=workers, samples=sample, seed=seed)
        for name, made in results.items():
            console.print(f"{name}: {made.selected:,} of {made.generated:,} events selected, {made.path}")


@app.command()
def cards(
    name: Annotated[str | None, typer.Argument(help="Print this card in full.")] = None,
    schema: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Write JSON Schemas of all kinds of cards, for editors."),
    ] = None,
) -> None:
    """List the data-set and model cards, or print one."""
    with _plain_errors():
        if schema:
            write_schemas(schema, {"dataset": DatasetCard, **model_card_classes()})
            return
        if name:
            typer.echo(_card_text(name))  # a console would fold lines, and break the YAML
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
