"""Methods that come from other libraries: importing those, and leaving nothing of them behind."""

from __future__ import annotations

import importlib
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import numpy as np
import torch


class MissingExtraError(ImportError):
    """An optional package that the method needs is not installed."""


def library(name: str, method: str) -> ModuleType:
    """Import a package of the extra ``shap``.

    Raises
    ------
    MissingExtraError
        If it is not there; the message says how to get it.
    """
    try:
        with warnings.catch_warnings():  # of what they use themselves: nothing that we could mend
            warnings.simplefilter("ignore")
            return importlib.import_module(name)
    except ImportError as problem:
        package = name.partition(".")[0]
        raise MissingExtraError(
            f'{method} needs {package} ({problem}): pip install "hepxai[shap]"'
        ) from problem


@contextmanager
def contained() -> Iterator[None]:
    """Let a library draw from the global random numbers and warn, without anybody outside noticing."""
    numpy_state, python_state = np.random.get_state(), random.getstate()  # noqa: NPY002
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        finally:
            np.random.set_state(numpy_state)  # noqa: NPY002
            random.setstate(python_state)
