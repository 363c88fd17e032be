"""Explanations in shards: an interrupted explanation resumes after its last complete shard."""

from __future__ import annotations

import warnings
from pathlib import Path

from hepxai.attribution import Attribution
from hepxai.core.console import track
from hepxai.core.files import sha256
from hepxai.events import Events
from hepxai.explainers import Prepared


def explain_in_shards(prepared: Prepared, events: Events, *, folder: Path, size: int) -> Attribution:
    """Attribution of all events, stored every ``size`` events.

    Parameters
    ----------
    prepared : Prepared
        From `Explainer.prepare`.
    events : Events
    folder : Path
        Folder for this model, these settings and these events only; its name starts with the method.
    size : int
        Events per shard.
    """
    parts, quiet = [], prepared.silent()
    with track(folder.name.rpartition("-")[0], len(events), show=True) as advance:
        for first in range(0, len(events), size):
            shard_events = events[first : first + size]
            name = folder / f"{first:09d}-{len(shard_events)}"
            shard = _complete_shard(name) or _store(name, quiet.attribute(shard_events))
            parts.append(Attribution.load(shard, shard_events))
            advance(len(shard_events), "")
    return Attribution.concatenate(parts)


def _store(name: Path, part: Attribution) -> Path:
    """Write a shard to a file whose name ends with the hash of its content."""
    temporary = name.with_suffix(".safetensors")
    part.save(temporary)
    return temporary.rename(name.with_name(f"{name.name}-{sha256(temporary)}.safetensors"))


def _complete_shard(name: Path) -> Path | None:
    """Complete shard, if its content has the hash in its name; None without one."""
    for shard in name.parent.glob(f"{name.name}-*.safetensors"):
        if shard.stem.endswith(f"-{sha256(shard)}"):
            return shard
        warnings.warn(
            f"{shard} was changed after it was written: its events are explained again", stacklevel=2
        )
        shard.unlink()
    return None
