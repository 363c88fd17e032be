"""Packages of an extra, imported on first use."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional package is not installed."""


def import_extra(name: str, what: str, extra: str | None = "shap") -> ModuleType:
    """Import a package of an extra.

    Parameters
    ----------
    name : str
        Module.
    what : str
        Method or model that needs it.
    extra : str, optional
        Extra of `hepxai` that installs it; None for a package that no extra has.

    Raises
    ------
    MissingExtraError
        If it is not there; the message says how to get it.
    """
    try:
        with warnings.catch_warnings():  # about their own dependencies
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as problem:
        package = name.partition(".")[0]
        remedy = f'"hepxai[{extra}]"' if extra else package
        raise MissingExtraError(f"{what} needs {package} ({problem}): pip install {remedy}") from problem
