"""The maps that a report shows: one number per particle or pair, for each method and layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from hepxai.attribution import Attribution
from hepxai.core.formatting import method_name, short_method
from hepxai.metrics.reductions import in_focus, is_directed, labels_of, reduced, whole_pairs
from hepxai.plots.means import layers, particle_groups, relative_to_uniform, sums_to_one
from hepxai.plots.scores import sides
from hepxai.report.content import ReportContent
from hepxai.report.section import ERRORS, population, splits_of


@dataclass(frozen=True)
class LayerAttribution:
    """One number per particle or pair, and where it came from.

    Attributes
    ----------
    method, layer : str
        ``layer`` is "" where there is only one.
    plain : Attribution
        Reduced; attention relative to uniform; each pair once where pairs have no direction.
    full : Attribution
        As explained.
    relative : bool
        Whether the method gave attention, so that ``plain`` is relative to uniform.
    """

    method: str
    layer: str
    plain: Attribution
    full: Attribution
    relative: bool

    @property
    def key(self) -> str:
        """Anchor and file name."""
        text = f"{self.method} {self.layer}".strip().lower()
        return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)

    @property
    def name(self) -> str:
        """Method and layer in words."""
        return method_name(self.method) + (f", {self.layer}" if self.layer else "")

    @property
    def short(self) -> str:
        """The same where there is little room."""
        return short_method(self.method) + (f", {self.layer}" if self.layer else "")

    @property
    def of_model(self) -> bool:
        """Whether the model itself was explained, not a surrogate that repeats its story at best."""
        return not self.method.startswith("surrogate")

    @property
    def about(self) -> str:
        """End of every caption: which events, and what the errors are."""
        events = self.plain.events
        return f"{population(events)} of the {splits_of(events)} sample. {ERRORS}"

    @property
    def directed(self) -> bool:
        """True if the two orders of a pair are separate values."""
        return is_directed(self.full)

    def tells_apart(self, focus: tuple[str, str]) -> bool:
        """True if some pairs are in focus and others are not."""
        chosen = in_focus(self.plain, focus)
        return bool(chosen.any() and not chosen.all())

    def raw(self) -> Attribution:
        """One number per particle or pair, not relative to anything."""
        return layers(self.full)[self.layer]

    def heads(self) -> dict[str, Attribution]:
        """The map of every head, relative like ``plain``; empty where there are none to tell apart."""
        names = labels_of(self.full, "head") if "head" in self.full.axes else ()
        if len(names) < 2:
            return {}
        full = relative_to_uniform(self.full) if self.relative else self.full
        return {head: reduced(full, layer=self.layer or None, head=head) for head in names}


def maps(content: ReportContent, axis: str | None = None) -> Iterator[LayerAttribution]:
    """Every method and layer, optionally only those that run over "particle" or "pair"."""
    for method, full in content.explained.items():
        if full.axes[0] in ("particle", "pair") and axis in (None, full.axes[0]):
            relative = sums_to_one(full)
            shown = relative_to_uniform(full) if relative else full
            for layer, plain in layers(shown).items():
                yield LayerAttribution(method, layer, whole_pairs(plain), full, relative)


def by_place(found: LayerAttribution) -> str:
    """End of the caption of a figure by type, where there is but one type."""
    names, _ = particle_groups(found.plain.events)
    if names == found.plain.events.schema.types:
        return ""
    return f" All particles are {names[0].rpartition(' ')[0]}s: they are grouped by their place in pT."


def signed(found: LayerAttribution) -> str:
    """What the sign of a value means, with the class names of the card."""
    target, (_, other) = found.full.target, sides(found.full.events.schema)
    return f"Positive values push the logit of {target} up, negative ones down, towards {other}."
