"""Histograms under systematic variations, as ROOT files and as a HistFactory workspace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot

from hepxai.core.estimate import Array
from hepxai.core.files import replacing, write_json
from hepxai.plots.histograms import Template

NOMINAL = "nominal"
FILES = ("templates.root", "workspace.json")
Channels = Mapping[str, Mapping[str, Template]]
"""Channel → sample → template."""


def write_templates(folder: Path, channels: Channels, signal: str) -> list[Path]:
    """Write ``templates.root`` with all channels, and ``workspace.json`` with the first of them.

    Channels of the same events are no independent data: a fit of several would count the events twice.

    The ROOT file has ``CHANNEL/SAMPLE/nominal``, ``CHANNEL/SAMPLE/SOURCE_up`` and ``…_down`` (or ``…/SOURCE``
    of a single alternative), with Σw² errors: the layout that cabinetry reads with ``{RegionPath}``,
    ``{SamplePath}`` and ``{VariationPath}``. The workspace is HistFactory JSON for pyhf: a factor ``mu`` on
    the signal, a correlated shape and rate (histosys) of each source in all samples, and the statistical
    errors of the simulation. Its data are the sum of all samples (Asimov). A single alternative is mirrored
    at the nominal histogram.

    Parameters
    ----------
    folder : Path
    channels : mapping
        ``channel → sample → template``; the one for a fit first.
    signal : str
        Sample that is scaled by ``mu``.

    Warns
    -----
    UserWarning
        If the sum of all samples in a bin of the workspace is not positive, nominal or under a variation.
    """
    root, workspace = (folder / name for name in FILES)
    with replacing(root) as part, uproot.recreate(part) as file:
        for channel, samples in channels.items():
            for sample, template in samples.items():
                for name, histogram in _named(template).items():
                    file[f"{channel}/{sample}/{name}"] = histogram
    channel, samples = next(iter(channels.items()))
    _warn_of_empty_bins(channel, samples)
    write_json(workspace, workspace_of(channel, samples, signal))
    return [root, workspace]


def _named(template: Template) -> dict[str, hist.Hist]:
    named = {NOMINAL: template.nominal}
    for source, several in template.varied.items():
        ends = ("_up", "_down") if len(several) == 2 else ("",)
        named |= {f"{source}{end}": h for end, h in zip(ends, several, strict=True)}
    return named


def workspace_of(channel: str, samples: Mapping[str, Template], signal: str) -> dict[str, Any]:
    """HistFactory workspace as JSON values; see `write_templates`."""
    total = np.sum([t.nominal.values() for t in samples.values()], axis=0)
    parameters = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 10.0]]}]
    return {
        "channels": [
            {"name": channel, "samples": [_sample(channel, n, t, signal) for n, t in samples.items()]}
        ],
        "observations": [{"name": channel, "data": total.tolist()}],
        "measurements": [{"name": "mu", "config": {"poi": "mu", "parameters": parameters}}],
        "version": "1.0.0",
    }


def _sample(channel: str, name: str, template: Template, signal: str) -> dict[str, Any]:
    nominal, variances = template.nominal.values(), template.nominal.variances()
    error = {"name": f"staterror_{channel}", "type": "staterror", "data": np.sqrt(variances).tolist()}
    modifiers = [error, *(_histosys(s, nominal, several) for s, several in template.varied.items())]
    if name == signal:
        modifiers.append({"name": "mu", "type": "normfactor", "data": None})
    return {"name": name, "data": nominal.tolist(), "modifiers": modifiers}


def _histosys(source: str, nominal: Array, several: Sequence[hist.Hist]) -> dict[str, Any]:
    up, down = up_and_down(nominal, several)
    return {"name": source, "type": "histosys", "data": {"hi_data": up.tolist(), "lo_data": down.tolist()}}


def up_and_down(nominal: Array, several: Sequence[hist.Hist]) -> tuple[Array, Array]:
    """Contents under both alternatives; a single one is mirrored at the nominal contents, none is those."""
    if not several:
        return nominal, nominal
    up = several[0].values()
    return up, several[1].values() if len(several) == 2 else 2 * nominal - up


def _warn_of_empty_bins(channel: str, samples: Mapping[str, Template]) -> None:
    nominal = np.sum([t.nominal.values() for t in samples.values()], axis=0)
    totals = {NOMINAL: [nominal]}
    for source in {s: None for t in samples.values() for s in t.varied}:
        sides = [up_and_down(t.nominal.values(), t.varied.get(source, ())) for t in samples.values()]
        totals[source] = [np.sum([side[i] for side in sides], axis=0) for i in (0, 1)]
    for name, several in totals.items():
        if bad := max(int(np.count_nonzero(total <= 0)) for total in several):
            warnings.warn(
                f"{bad} of {len(nominal)} bins of {channel}, {name}, have no positive sum of weights; merge "
                "bins before a fit, or take more events",
                stacklevel=3,
            )
