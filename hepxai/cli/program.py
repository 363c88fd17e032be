"""The program `hepxai`: options of all commands, errors without a traceback, output."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from typer.core import TyperCommand, TyperOption

from hepxai import __version__
from hepxai.core.console import say

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
console = Console()
EXPECTED = (ValueError, TypeError, LookupError, ArithmeticError, OSError, RuntimeError, ImportError)
"""Errors about input; with HEPXAI_TRACEBACK set, their traceback is shown."""


def _version(asked: bool) -> None:
    if asked:
        console.print(f"hepxai {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_version, is_eager=True, help="Show the version."),
    ] = False,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of torch; small networks gain little from more.")
    ] = 1,
) -> None:
    """Explain machine learning on high-energy-physics events: why does a network call an event signal?"""  # noqa: D400


@contextmanager
def plain_errors(folder: Path | None = None, *, stopped: str = "") -> Iterator[None]:
    """Show expected errors and warnings as one line, without a traceback.

    Parameters
    ----------
    folder : Path, optional
        Folder in which the command resumes after Ctrl-C; named in the message.
    stopped : str
        Other end of that message.
    """
    if folder is not None:
        stopped = f"; the same command resumes from what is finished in {folder}"
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: _tell("[bold yellow]warning:[/]", message)
            yield
    except EXPECTED as problem:
        if os.environ.get("HEPXAI_TRACEBACK"):
            raise
        _tell("[bold red]error:[/]", problem)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        say(f"stopped{stopped}")
        raise typer.Exit(130) from None


def _tell(label: str, problem: object) -> None:
    text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
    Console(stderr=True).print(f"{label} {escape(str(text))}", highlight=False, soft_wrap=True)


class NetworkCommand(TyperCommand):
    """A command that uses torch, which takes seconds to import: so only when it runs."""

    def invoke(self, ctx: Any) -> Any:
        """Pin the threads: the order of sums changes numbers, and idle threads that spin slow all down."""
        with plain_errors():
            import torch

            torch.set_num_threads(ctx.find_root().params["threads"])
        return super().invoke(ctx)


class ExplainingCommand(NetworkCommand):
    """A command with ``--method``, whose help names the methods; they are imported only for that help."""

    def format_help(self, *args: Any) -> None:
        """Fill in names and defaults."""
        from hepxai.explainers import EXPLAINERS
        from hepxai.explainers.methods import default_methods

        defaults = "; ".join(f"{', '.join(methods)} ({view})" for view, methods in default_methods().items())
        names = {"methods": ", ".join(EXPLAINERS), "default": defaults}
        for option in self.params:
            if isinstance(option, TyperOption) and option.name == "method":
                option.help = str(option.help).format_map(names)
        super().format_help(*args)
