"""Draft of the variations of a card: shifted branches and weights, by the names of NanoAOD and coffea."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from dataclasses import replace
from typing import NamedTuple

import yaml

from hepxai.datasets.inspection import TreeReport

#: Jet_pt_jesTotalUp, btagWeight_up, L1PreFiringWeight_Dn
_LAST = re.compile(
    r"^(?P<stem>.+?)(?:[_.](?P<low>(?i:up|down|dn))|(?P<camel>Up|Down|Dn|UP|DOWN|DN))$", re.ASCII
)
#: Jet_JES_jes.up.pt of coffea, Jet_btagSF_shape_up_jes of nanoAOD-tools
_INSIDE = re.compile(r"^(?P<stem>\w+)[_.](?P<side>up|down)[_.](?P<rest>\w+)$", re.ASCII | re.IGNORECASE)
_WEIGHT = re.compile(r"weight|(^|_|[a-z])SF(_|$)|(^|_)sf(_|$)|^w_", re.IGNORECASE)
_CENTRAL = ("_nom", "_Nom", "_nominal", "_central")
#: Members of NanoAOD's lists of weights for up and down, by the length of the list.
_LISTS = {
    ("LHEScaleWeight", 9): {"lhe_scale": (8, 0)},
    ("LHEScaleWeight", 8): {"lhe_scale": (7, 0)},
    ("PSWeight", 4): {"isr": (0, 2), "fsr": (1, 3)},
}


class ShiftedBranch(NamedTuple):
    """A branch that is another one under a variation."""

    name: str
    nominal: str
    source: str
    side: str


def shifted_branches(names: Collection[str]) -> list[ShiftedBranch]:
    """Branches that look like up or down alternatives of others, or like weights for such."""
    return [found for name in names if (found := _parse(name, names)) is not None]


def without_shifted(tree: TreeReport) -> TreeReport:
    """The same tree without the branches that belong to variations."""
    names = {s.name for s in shifted_branches([b.name for b in tree.branches])}
    return replace(tree, branches=tuple(b for b in tree.branches if b.name not in names))


def _parse(name: str, names: Collection[str]) -> ShiftedBranch | None:
    if match := _LAST.match(name):
        side = "up" if (match["low"] or match["camel"]).lower() == "up" else "down"
        stem = match["stem"]
        if nominal := _longest_prefix(stem, names):
            return ShiftedBranch(name, nominal, _name(stem[len(nominal) :] or stem), side)
        if _WEIGHT.search(stem):
            central = next((stem + c for c in _CENTRAL if stem + c in names), "")
            return ShiftedBranch(name, central, _name(stem), side)
    if match := _INSIDE.match(name):
        stem, rest, side = match["stem"], match["rest"], match["side"].lower()
        if stem in names:
            return ShiftedBranch(name, stem, _name(f"{stem}_{rest}"), side)
        owner, _, source = stem.partition("_")
        if source and (nominal := f"{owner}_{rest}") in names:
            return ShiftedBranch(name, nominal, _name(source), side)
    return None


def _longest_prefix(stem: str, names: Collection[str]) -> str:
    """Longest branch that the stem begins with, up to an underscore, a dot or a capital letter."""
    ends = [i for i in range(1, len(stem)) if stem[i] in "_." or stem[i].isupper()]
    return next((stem[:i] for i in (len(stem), *reversed(ends)) if stem[:i] in names), "")


def _name(text: str) -> str:
    name = re.sub(r"\W", "_", text).strip("_")
    return name if name.isidentifier() and name != "nominal" else f"variation_{name}"


# --- the text ------------------------------------------------------------------------------------


def draft_variations(tree: TreeReport, weights: str, entries: int) -> list[str]:
    """Lines of a card for the variations that a tree has; none without any.

    Parameters
    ----------
    tree : TreeReport
        With all its branches.
    weights : str
        Branch under ``weights:`` on the card, or an empty text.
    entries : int
        Entries that the report is about.
    """
    sources: dict[str, dict[str, list[ShiftedBranch]]] = defaultdict(lambda: {"up": [], "down": []})
    shapes = {b.name: b.shape for b in tree.branches}
    for shifted in shifted_branches(list(shapes)):
        if shapes[shifted.name] == shapes.get(shifted.nominal, shapes[shifted.name]):
            sources[shifted.source][shifted.side].append(shifted)
    lines = [line for name, sides in sources.items() for line in _source(name, sides, weights, shapes)]
    lines += _lists(tree, entries)
    head = "variations: # systematic uncertainties, see docs/systematics.md; look at every line"
    return [head, *lines] if any(not line.startswith("  #") for line in lines) else lines


def _source(
    name: str, sides: dict[str, list[ShiftedBranch]], weights: str, shapes: Mapping[str, str]
) -> Iterator[str]:
    """Lines of one source; a comment where a partner is missing."""
    nominal = [{s.nominal for s in sides[side]} for side in ("up", "down")]
    alone = [s.name for side in sides.values() for s in side if s.nominal not in nominal[0] & nominal[1]]
    if alone:
        yield f"  # not both up and down: {', '.join(alone)}"
    paired = {side: [s for s in sides[side] if s.name not in alone] for side in sides}
    if not paired["up"]:
        return
    central = [n for s in paired["up"] for c in _CENTRAL if (n := s.nominal + c) in shapes]
    note = f" # the file has {', '.join(central)}, too: should the card read that?" if central else ""
    yield f"  {name}:{note or _note(paired['up'], weights, shapes)}"
    for side in ("up", "down"):
        yield f"    {side}: {_flow(_alternative(paired[side], weights, shapes))}"


def _note(branches: list[ShiftedBranch], weights: str, shapes: Mapping[str, str]) -> str:
    of_weight = [s for s in branches if _is_weight(s, weights)]
    if not of_weight:
        return ""
    if any(shapes[s.name] == "per particle" for s in of_weight):
        return " # product over all particles of the file, not only those after cuts"
    return " # factor of the weight" + ("" if of_weight[0].nominal else "; is there no nominal one?")


def _is_weight(shifted: ShiftedBranch, weights: str) -> bool:
    return (bool(_WEIGHT.search(shifted.name)) and shifted.nominal != weights) or not shifted.nominal


def _alternative(branches: list[ShiftedBranch], weights: str, shapes: Mapping[str, str]) -> dict[str, object]:
    """Content of `up` or `down`."""
    content: dict[str, object] = {}
    if exchange := {s.nominal: s.name for s in branches if not _is_weight(s, weights)}:
        content["branches"] = exchange
    if factors := [_factor(s, shapes) for s in branches if _is_weight(s, weights)]:
        content["weight"] = " * ".join(factors)
    return content


def _factor(shifted: ShiftedBranch, shapes: Mapping[str, str]) -> str:
    ratio = f"{shifted.name} / {shifted.nominal}" if shifted.nominal else shifted.name
    return f"exp(sum(log({ratio})))" if shapes[shifted.name] == "per particle" else ratio


def _lists(tree: TreeReport, entries: int) -> Iterator[str]:
    """Lines for NanoAOD's lists of weights, whose length tells what they hold."""
    for branch in tree.branches:
        size, rest = divmod(branch.count if branch.shape == "per particle" else 0, max(1, entries))
        size = 0 if rest else size  # lists of different lengths are something else
        for name, (up, down) in _LISTS.get((branch.name, size), {}).items():
            yield f"  {name}: # members {up} and {down} of {size}: read the title of {branch.name}"
            for side, member in (("up", up), ("down", down)):
                yield f"    {side}: {_flow({'weight': f'nth({branch.name}, {member})'})}"
        if branch.name == "LHEPdfWeight" and size:
            yield f"  # {branch.name} has {size} members: no up and down, but a set to combine"


def _flow(value: object) -> str:
    return str(yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)).strip()
