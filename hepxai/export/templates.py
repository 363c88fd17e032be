"""Histograms under systematic variations, as ROOT files and as a HistFactory workspace."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import hist
import numpy as np
import uproot

from hepxai.core.estimate import Array
from hepxai.core.files import replacing, write_json

NOMINAL = "nominal"
FILES = ("templates.root", "workspace.json")
Channels = Mapping[str, Mapping[str, "Template"]]
"""Channel → sample → template."""


@dataclass(frozen=True)
class Template:
    """Histogram of a sample, nominal and under the alternatives of each source of uncertainty.

    Attributes
    ----------
    nominal : hist.Hist
        Of signed weights, with variances.
    varied : mapping of str to sequence of hist.Hist
        Source → up and down, or a single alternative, in the same bins.
    """

    nominal: hist.Hist
    varied: Mapping[str, Sequence[hist.Hist]]


def write_templates(folder: Path, channels: Channels, signal: str) -> list[Path]:
    """Write ``templates.root`` and ``workspace.json``.

    The ROOT file has ``CHANNEL/SAMPLE/nominal``, ``CHANNEL/SAMPLE/SOURCE_up`` and ``…_down`` (or ``…/SOURCE``
    of a single alternative), with Σw² errors: the layout that cabinetry reads with ``{RegionPath}``,
    ``{SamplePath}`` and ``{VariationPath}``. The workspace is HistFactory JSON for pyhf: a factor ``mu`` on
    the signal, a correlated shape and rate (histosys) of each source in all channels and samples, and the
    statistical errors of the simulation. Its data are the sum of all samples (Asimov). A single alternative
    is mirrored at the nominal histogram.

    Parameters
    ----------
    folder : Path
    channels : mapping
        ``channel → sample → template``.
    signal : str
        Sample that is scaled by ``mu``.

    Warns
    -----
    UserWarning
        If a nominal bin is not positive: a fit takes its logarithm.
    """
    root, workspace = (folder / name for name in FILES)
    with replacing(root) as part, uproot.recreate(part) as file:
        for channel, samples in channels.items():
            for sample, template in samples.items():
                for name, histogram in _named(template).items():
                    file[f"{channel}/{sample}/{name}"] = histogram
    _warn_of_empty_bins(channels)
    write_json(workspace, workspace_of(channels, signal))
    return [root, workspace]


def _named(template: Template) -> dict[str, hist.Hist]:
    named = {NOMINAL: template.nominal}
    for source, several in template.varied.items():
        ends = ("_up", "_down") if len(several) == 2 else ("",)
        named |= {f"{source}{end}": h for end, h in zip(ends, several, strict=True)}
    return named


def workspace_of(channels: Channels, signal: str) -> dict[str, Any]:
    """HistFactory workspace as JSON values; see `write_templates`."""
    specified = [
        {
            "name": channel,
            "samples": [_sample(channel, name, t, signal) for name, t in samples.items()],
        }
        for channel, samples in channels.items()
    ]
    sums = {
        c: np.sum([t.nominal.values() for t in samples.values()], axis=0) for c, samples in channels.items()
    }
    parameters = [{"name": "mu", "inits": [1.0], "bounds": [[0.0, 10.0]]}]
    return {
        "channels": specified,
        "observations": [{"name": c, "data": total.tolist()} for c, total in sums.items()],
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
    up = several[0].values()
    down = several[1].values() if len(several) == 2 else 2 * nominal - up
    return {"name": source, "type": "histosys", "data": {"hi_data": up.tolist(), "lo_data": down.tolist()}}


def _warn_of_empty_bins(channels: Channels) -> None:
    for channel, samples in channels.items():
        total = np.sum([t.nominal.values() for t in samples.values()], axis=0)
        if bad := int(np.count_nonzero(total <= 0)):
            warnings.warn(
                f"{bad} of {len(total)} bins of {channel} have no positive sum of weights; merge bins before "
                "a fit, or take more events",
                stacklevel=3,
            )
