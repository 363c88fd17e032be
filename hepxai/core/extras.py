"""Import of optional packages."""

from __future__ import annotations

import importlib
import warnings
from types import ModuleType


class MissingExtraError(ImportError):
    """An optional package is not installed."""


def import_extra(name: str, user: str, extra: str) -> ModuleType:
    """Import a module of an optional package.

    Parameters
    ----------
    name : str
        Module.
    user : str
        Method or feature that needs it, for the message.
    extra : str
        Extra of hepxai that installs it.

    Raises
    ------
    MissingExtraError
        If it is not installed; the message gives the command.
    """
    try:
        with warnings.catch_warnings():  # about their own dependencies
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as problem:
        package = name.partition(".")[0]
        raise MissingExtraError(
            f'{user} needs {package} ({problem}): pip install "hepxai[{extra}]"'
        ) from problem
