"""Draft of a card for a file of unknown origin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml

from hepxai.datasets.columns import ReadError
from hepxai.datasets.inspection import FileReport, Shape, TreeReport
from hepxai.datasets.kinematics import BranchMap, objects, patterns, spellings
from hepxai.datasets.sources import is_remote
from hepxai.datasets.variation_drafts import draft_variations, without_shifted
from hepxai.datasets.vocabulary import FUNCTIONS
from hepxai.events.momenta import convention

_NOT_MEASURED = re.compile(r"^(gen|mc|lhe|truth|hlt|trig|l1|sv|sub|corr|soft|fsr)", re.IGNORECASE)
_MISSING = re.compile(rf"(?!{_NOT_MEASURED.pattern}).*(met|miss)", re.IGNORECASE)
_USUAL = re.compile(r"^(e|el|ele|electron|mu|muon|lep|lepton|tau|ph|photon|gamma|jet|jets|particle)s?$")
_MASSES = {"muon": 0.105658, "mu": 0.105658, "electron": 0.000511, "ele": 0.000511, "tau": 1.77686}
_WEIGHTS = re.compile(r"^(gen_?weight|event_?weight|mc_?(event_?)?weight|weight|w)$", re.IGNORECASE)
_LABELS = re.compile(r"^((is_?)?sig(nal)?|(truth_?|event_?|class_?)?label|target|class)$", re.IGNORECASE)
_NUMBERS = {
    "run": re.compile(r"^run(_?number)?$", re.IGNORECASE),
    "luminosity_block": re.compile(r"^(lumi(nosity)?_?(block)?|ls)$", re.IGNORECASE),
    "event": re.compile(r"^(event|evt)(_?number|num|_?id)?$", re.IGNORECASE),
}
#: Median momentum above which a file is taken to be in MeV.
_MEV = 3000.0


@dataclass
class _Group:
    """Branches that look like one particle type."""

    name: str
    patterns: list[str]
    components: tuple[str, ...]
    has: set[str]

    @property
    def shape(self) -> Shape:
        """Shape of the branches."""
        return "per event" if len(self.patterns) > 1 else "per particle"


def draft_card(report: FileReport, classes: Mapping[str, str] | None = None) -> str:
    """YAML of a card for a file: particles, weights, event numbers, missing values and variations, by name.

    It loads as it is; samples, labels and cuts are left to the author.

    Parameters
    ----------
    report : FileReport
    classes : mapping of str to str, optional
        Class of each file of the data set; by default the file of the report alone, as signal.
    """
    if not report.trees:
        raise ReadError(f"{report.path} has no TTree and no RNTuple to draft a card for")
    whole = next((t for t in report.trees if t.name == "Events" and t.entries), report.trees[0])
    tree = without_shifted(whole)
    groups, others = _groups(tree)
    if not groups:
        raise ReadError(
            f"{report.path}:{tree.name} has no branches that look like pt, eta, phi or px, py, pz "
            "of particles; write the card by hand. For hits of a detector see `image:` with `momenta: none` "
            "in docs/dataset_card.md; `hepxai cards muon_patterns` shows one"
        )
    blocks = [_head(report, tree, groups, classes), _particles(tree, groups, others), _tail(tree, groups)]
    blocks.append(draft_variations(whole, _weights(tree), min(report.looked_at, whole.entries)))
    return "\n".join(line for block in blocks for line in block) + "\n"


# --- particles ---------------------------------------------------------------------------------


def _groups(tree: TreeReport) -> tuple[list[_Group], list[str]]:
    lists = [g for g in _kinematic(tree, "per particle") if len(g.components) == 3]
    single = _kinematic(tree, "per event")
    flat = _numbered([g for g in single if len(g.components) == 3])
    measured = [g for g in lists + flat if not _NOT_MEASURED.match(g.patterns[0])]
    missing = [g for g in single if len(g.components) == 2 and _MISSING.match(g.patterns[0])]
    usual = [g for g in measured if _USUAL.match(g.name)] or measured
    groups = usual + sorted(missing, key=_preference)[:1]
    others = [g.patterns[0] for g in lists + flat + missing if g not in groups]
    for i, group in enumerate(groups):
        if group.name in {g.name for g in groups[:i]}:
            group.name = f"{group.name}_{i}"
    return groups, others


def _kinematic(tree: TreeReport, shape: Shape) -> list[_Group]:
    names = tree.names(shape)
    vectors = {name: have for name, have in objects(names).items() if convention(have)}
    inside = tuple(f"{name}." for name in vectors)
    others = {p: have for p, have in patterns(names).items() if not p.startswith(inside)}
    return [_Group(_name(p), [p], convention(h) or (), h) for p, h in (vectors | others).items()]


def _numbered(single: list[_Group]) -> list[_Group]:
    """``{}1`` and ``{}2`` are two particles of one type."""
    groups: dict[str, _Group] = {}
    for group in single:
        first = groups.setdefault(re.sub(r"\d+", "#", group.patterns[0]), group)
        if first is not group:
            first.patterns += group.patterns
    return list(groups.values())


def _preference(group: _Group) -> tuple[int, int]:
    best = ("met", "puppimet", "pfmet")
    return best.index(group.name) if group.name in best else len(best), len(group.name)


def _name(pattern: str) -> str:
    name = re.sub(r"\W|\d|[pP]4$", "", pattern.replace("{}", "")).strip("_").lower()
    return "particle" if not name or name in FUNCTIONS else name


# --- the text ------------------------------------------------------------------------------------


def _head(
    report: FileReport, tree: TreeReport, groups: list[_Group], classes: Mapping[str, str] | None
) -> list[str]:
    weights, units = _weights(tree), _units(tree, groups)
    path = report.path if is_remote(report.path) else str(Path(report.path).resolve())
    path = path if classes is None else Path(path).name
    classes = {path: "signal"} if classes is None else classes
    return [
        f"# Drafted from {path}: look at every line, then run `hepxai check` on it.",
        "name: draft",
        f"tree: {_quoted(tree.name)}",
        f"units: {units} # what the file is in; guessed from the size of the momenta",
        "samples:",
        *(
            f"  - {{name: {_quoted(c)}, files: {_quoted([p for p, k in classes.items() if k == c])}, "
            f"class: {_quoted(c)}}}"
            for c in dict.fromkeys(classes.values())
        ),
        *(["  # - {name: background, files: [...], class: background}"] * (len(set(classes.values())) == 1)),
        *_labels(tree, list(dict.fromkeys(classes.values()))),
        *([f"weights: {weights} # signed"] if weights else ["# weights: genWeight"]),
        *_identity(tree),
    ]


def _weights(tree: TreeReport) -> str:
    """Branch of the event's weight; an empty text without one."""
    return next((b for b in tree.names("per event") if _WEIGHTS.match(b)), "")


def _labels(tree: TreeReport, classes: list[str]) -> list[str]:
    """Classes of the samples; as a comment, conditions for two classes in one file."""
    if len(classes) > 1:
        return [f"labels: {_quoted(classes)}"]
    branches = [b for b in tree.names("per event") if _LABELS.match(b)]
    name, hint = (branches[0], "") if branches else ("isSignal", " # isSignal: a branch or variable of yours")
    return [
        f"labels: {_quoted(classes)} # one class: nothing to tell apart; add another, as in [background, "
        "signal]",
        "# Both classes in one file? Then a condition for each, and no class: in samples:",
        f"# labels: {{background: {name} == 0, signal: {name} == 1}}{hint}",
    ]


def _units(tree: TreeReport, groups: list[_Group]) -> str:
    sizes = [
        max(abs(branch.median), abs(branch.high) / 10)
        for group in groups
        for component in ("pt", "energy")
        if (name := _branch(tree, group.patterns[0], component))
        and not np.isnan((branch := tree.branch(name)).median)
    ]
    return "MeV" if sizes and float(np.median(sizes)) > _MEV else "GeV"


def _branch(tree: TreeReport, pattern: str, component: str) -> str | None:
    names = {b.name for b in tree.branches}
    return next((n for n in spellings(pattern, component) if n in names), None)


def _identity(tree: TreeReport) -> list[str]:
    whole = [b.name for b in tree.branches if b.shape == "per event" and "int" in b.type.lower()]
    numbers = {k: n for k, r in _NUMBERS.items() for n in whole if r.match(n)}
    if "event" not in numbers:
        return [
            "# identity: {run: run, event: event} # no branch numbers the events: numbered by file and entry"
        ]
    if {"run", "luminosityBlock", "event"} <= set(whole):
        return []
    return [f"identity: {{{', '.join(f'{k}: {n}' for k, n in numbers.items())}}}"]


def _particles(tree: TreeReport, groups: list[_Group], others: list[str]) -> list[str]:
    lines = ["particles:"]
    for group in groups:
        lines += [f"  {group.name}:", f"    branches: {_source(tree, group)}"]
        if len(group.components) == 3 and not group.has & {"mass", "energy"}:
            lines.append(f"    mass: {_MASSES.get(group.name, 0.0)} # GeV; the file has none")
        if filled := _filled(tree, group):
            lines.append(f"    cuts: {{filled: {filled}}} # every event has as many places, not all filled")
        if extra := _extra(tree, group):
            lines.append(f"    features: {{{', '.join(f'{k}: {n}' for k, n in extra.items())}}}")
    if others:
        lines.append(f"  # not used: {', '.join(others)}")
    return lines + _missing(tree, groups)


def _filled(tree: TreeReport, group: _Group) -> str:
    """Condition for the places of fixed arrays and flat columns that hold a particle; empty if all do."""
    sizes = [
        tree.branch(name)
        for pattern in group.patterns
        for component in ("pt", "energy", *group.components)
        if (name := _branch(tree, pattern, component))
    ]
    fixed = any(b.size for b in sizes)
    stem = re.sub(r"[\W_]", "", group.patterns[0].partition("{}")[0]).lower()
    counters = {f"{a}{stem}{b}" for a in ("n", "num", "") for b in ("", "s", "n", "size", "count")} - {stem}
    for branch in tree.branches if fixed else ():
        whole = branch.shape == "per event" and "int" in branch.type.lower()
        if whole and not branch.low < 0 and branch.name.replace("_", "").lower() in counters:
            return f"index < {branch.name}"
    padded = any(b.nan or b.sentinels or b.low == 0 for b in sizes)
    return "pt > 0" if padded and (fixed or len(group.patterns) > 1) else ""


def _source(tree: TreeReport, group: _Group) -> str:
    if len(group.components) == 2:
        pairs = [f"{c}: {_branch(tree, group.patterns[0], c)}" for c in group.components]
        return f"{{{', '.join(pairs)}}}"
    return _quoted(group.patterns if len(group.patterns) > 1 else group.patterns[0])


def _extra(tree: TreeReport, group: _Group) -> dict[str, str]:
    """Short names of charge and b-tag branches, if the file has them."""
    short = BranchMap(group.patterns[0], tree.names(group.shape)).quantities
    charge = [s for s in short if s.lower() in ("charge", "q")]
    btag = sorted((s for s in short if "btag" in s.lower()), key=lambda s: "DeepFlavB" not in s)
    return {name: names[0] for name, names in (("charge", charge), ("btag", btag)) if names}


def _missing(tree: TreeReport, groups: list[_Group]) -> list[str]:
    used = [n for g in groups for p in g.patterns for q in _extra(tree, g).values() for n in spellings(p, q)]
    lines = []
    for branch in (b for b in tree.branches if b.name in used and (b.sentinels or b.nan)):
        values = [f"{v:g}" for v, _ in branch.sentinels] + [".nan"] * bool(branch.nan)
        lines.append(f"  {branch.name}: {{values: [{', '.join(values)}], replace: 0}}")
    return ["missing: # values that stand for `not measured`", *lines] if lines else []


def _tail(tree: TreeReport, groups: list[_Group]) -> list[str]:
    extra = dict.fromkeys(name for g in groups for name in _extra(tree, g))
    lists = [g.name for g in groups if len(g.components) == 3]
    return [
        f"# selection: [count({lists[0] if lists else 'muon'}) >= 2]",
        f"features: [{', '.join(['energy', 'px', 'py', 'pz', *extra, 'type'])}]",
        "observers: # carried along, never learned from",
        *[f"  n_{name}: count({name})" for name in lists],
        "split: {train: 6, valid: 3, test: 1}",
    ]


def _quoted(value: str | list[str]) -> str:
    """Text, or a list of texts in brackets, as YAML: in quotes where it needs them."""
    return yaml.safe_dump(value, default_flow_style=True, width=10_000).removesuffix("...\n").strip()
