"""A long explanation in shards: what a killed process finished is read, not repeated."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from hepxai.attribution import Attribution
from hepxai.events import Events
from hepxai.explain import Explainer
from hepxai.files import sha256
from hepxai.progress import track


def explain_in_shards(
    explainer: Explainer, model: Any, events: Events, target: str, *, folder: Path, size: int
) -> Attribution:
    """Attribution of all events, stored every ``size`` events.

    Parameters
    ----------
    explainer : Explainer
        Prepared.
    model
    events : Events
    target : str
        Output to explain.
    folder : Path
        Of nothing else than this model, these settings and these events; named after the method.
    size : int
    """
    parts, quiet = [], explainer.silent()
    with track(folder.name.rpartition("-")[0], len(events), show=True) as advance:
        for first in range(0, len(events), size):
            some = events[first : first + size]
            name = folder / f"{first:09d}-{len(some)}"
            shard = _finished(name) or _store(name, quiet.attribute(model, some, target))
            parts.append(Attribution.load(shard, some))
            advance(len(some), "")
    return Attribution.concatenate(parts)


def _store(name: Path, part: Attribution) -> Path:
    """Write a shard; the name of its file ends with the hash of its content."""
    unnamed = name.with_suffix(".safetensors")
    part.save(unnamed)
    return unnamed.rename(name.with_name(f"{name.name}-{sha256(unnamed)}.safetensors"))


def _finished(name: Path) -> Path | None:
    """Shard that is as the process which finished it wrote it."""
    for shard in name.parent.glob(f"{name.name}-*.safetensors"):
        if shard.stem.endswith(f"-{sha256(shard)}"):
            return shard
        warnings.warn(
            f"{shard} was changed after it was written: its events are explained again", stacklevel=2
        )
        shard.unlink()
    return None
