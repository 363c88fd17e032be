"""Attributions of a report: one number per particle or pair, for each method and layer."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial

from hepxai.attribution import Attribution
from hepxai.attribution.means import Means, focus_means, pair_means, particle_groups, type_means
from hepxai.attribution.reductions import (
    features_only,
    full_name,
    in_focus,
    is_directed,
    labels_of,
    layers,
    reduced,
    relative_to_uniform,
    short_name,
    sums_to_one,
    whole_pairs,
)
from hepxai.attribution.spread import single_trainings
from hepxai.attribution.trainings import stack_trainings
from hepxai.report.outputs import explained_output
from hepxai.report.section import errors_of, population, splits_of
from hepxai.report.view import RunView, fidelity_of, once


@dataclass(frozen=True)
class LayerAttribution:
    """One number per particle or pair of one method and layer.

    Attributes
    ----------
    method, layer : str
        Key among the explanations of the run; ``layer`` is "" where there is only one.
    plain : Attribution
        Reduced; attention relative to uniform; each pair once where pairs have no direction.
    full : Attribution
        All axes, as explained.
    relative : bool
        True for attention: ``plain`` is relative to uniform.
    compact : bool
        True to leave out the figures; see `RunView.compact`.
    singles : tuple of Attribution
        ``full`` of each of several trainings, whose mean it is; empty for one training.
    varied : mapping of str to tuple of Attribution
        ``full`` under the alternatives of each systematic uncertainty, by source.
    focus : tuple of two str
        Types of the pair in focus.
    """

    method: str
    layer: str
    plain: Attribution
    full: Attribution
    relative: bool
    compact: bool = False
    singles: tuple[Attribution, ...] = ()
    varied: Mapping[str, tuple[Attribution, ...]] = field(default_factory=dict)
    focus: tuple[str, str] = ("", "")

    @cached_property
    def means(self) -> Means:
        """Means by types of particles or pairs, with all their errors."""
        return pair_means(self.every) if self.plain.axes[0] == "pair" else type_means(self.every)

    @cached_property
    def focus_means(self) -> Means:
        """Means of the pairs in focus and of all others, with all their errors."""
        return focus_means(self.every, self.focus)

    @cached_property
    def every(self) -> Attribution:
        """``plain`` with the axis "training" and with the variations, for means with all their errors."""
        return self._stacked(self._plain, self.plain)

    @cached_property
    def every_raw(self) -> Attribution:
        """`raw`, likewise."""
        return self._stacked(lambda a: layers(a)[self.layer], self.raw())

    @cached_property
    def every_feature(self) -> Attribution:
        """Means over all axes but the features, likewise."""
        return self._stacked(features_only, features_only(self.full))

    def _plain(self, full: Attribution) -> Attribution:
        relative = relative_to_uniform(full) if self.relative else full
        return whole_pairs(layers(relative)[self.layer])

    def _stacked(self, reduce: Callable[[Attribution], Attribution], mean: Attribution) -> Attribution:
        varied = {source: tuple(map(reduce, several)) for source, several in self.varied.items()}
        if not self.singles:
            return mean.replace(varied=varied)
        stacked = stack_trainings([reduce(a) for a in self.singles])
        checks = {"checks": mean.checks, "concerns": mean.concerns}
        return stacked.replace(values=stacked.values, varied=varied, **checks)

    @property
    def errors(self) -> str:
        """Kinds of the errors of means, for captions."""
        return errors_of(self.every)

    @property
    def key(self) -> str:
        """Anchor and file name."""
        text = f"{self.method} {self.layer}".strip().lower()
        return "".join(c if c.isalnum() and c.isascii() else "_" for c in text)

    @property
    def name(self) -> str:
        """Method and layer in words."""
        return full_name(self.full, self.method) + (f", {self.layer}" if self.layer else "")

    @property
    def short(self) -> str:
        """Method and layer where there is little room."""
        return short_name(self.full, self.method) + (f", {self.layer}" if self.layer else "")

    @property
    def of_model(self) -> bool:
        """True if the model itself was explained, not a surrogate."""
        return not fidelity_of(self.full)

    @property
    def about(self) -> str:
        """End of every caption: events, and kind of the errors."""
        events = self.plain.events
        return f"{population(events)} of the {splits_of(events)} sample. {self.errors}"

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
        """Reduced attribution of every head, relative like ``plain``; empty for fewer than two heads.

        Also of several trainings, whose heads do not correspond.
        """
        names = labels_of(self.full, "head") if "head" in self.full.axes else ()
        if len(names) < 2 or self.singles:
            return {}
        every = self.full.replace(varied=self.varied)
        if self.relative:
            every = every.apply(relative_to_uniform)
        return {h: every.apply(partial(reduced, layer=self.layer or None, head=h)) for h in names}


def maps(view: RunView, axis: str | None = None) -> Iterator[LayerAttribution]:
    """Every method and layer, optionally only those over "particle" or "pair"; those with figures first."""
    return (layer for layer in _maps(view) if axis in (None, layer.full.axes[0]))


@once
def _maps(view: RunView) -> tuple[LayerAttribution, ...]:
    return tuple(_layers(view))


def _layers(view: RunView) -> Iterator[LayerAttribution]:
    for method, full in sorted(view.explained.items(), key=lambda item: view.compact(item[1].target)):
        if full.axes[0] in ("particle", "pair"):
            relative, compact = sums_to_one(full), view.compact(full.target)
            for layer, plain in layers(relative_to_uniform(full) if relative else full).items():
                plain, singles = whole_pairs(plain), tuple(single_trainings(view.every[method]))
                varied = view.varied[method]
                several = (relative, compact, singles, varied, view.focus)
                yield LayerAttribution(method, layer, plain, full, *several)


def by_place(layer: LayerAttribution) -> str:
    """End of the caption of a figure by type, if there is only one type."""
    names, _ = particle_groups(layer.plain.events)
    if names == layer.plain.events.schema.types:
        return ""
    return f" All particles are {names[0].rpartition(' ')[0]}s: they are grouped by their place in pT."


def signed(layer: LayerAttribution) -> str:
    """Meaning of the sign of a value, with the class names of the card."""
    return explained_output(layer.full.events.schema, layer.full.target).sign
