"""Veto of events that cannot be selected, by callbacks of Pythia during the shower."""

from __future__ import annotations

from typing import Any

from hepxai.simulate.generator import import_generator
from hepxai.simulate.multijet.settings import Veto

_TOP = 6
_RADIUS = 0.4
_RESONANCE_DECAYS = 5  # doVetoPT's iPos: called for the shower of a resonance decay


def hooks(pythia: Any, veto: Veto) -> Any:
    """Pythia's user hooks that veto by parton jets, at ``veto.scale`` and at the end of the shower.

    At the scale, top quarks are undecayed in the event: the quarks of their decays, known from the hard
    process, take their place, boosted along with the recoil.

    Parameters
    ----------
    pythia : pythia8mc.Pythia
    veto : Veto

    Returns
    -------
    pythia8mc.UserHooks
        With the attribute ``passed``, the number of events that no veto stopped.
    """
    pythia8 = import_generator("pythia8mc")

    class Hooks(pythia8.UserHooks):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.passed = 0
            # Anti-kt; partons a little beyond the acceptance complete the jets at its edge.
            edge = veto.abs_y_max + _RADIUS
            # Pythia's own clustering: its copy of FastJet would print a banner.
            self._jets = pythia8.SlowJet(-1, _RADIUS, veto.jets_pt[-1], edge, 1, 1, None, False, True)

        def canVetoPT(self) -> bool:  # noqa: N802
            return True

        def scaleVetoPT(self) -> float:  # noqa: N802
            return veto.scale

        def doVetoPT(self, where: int, event: Any) -> bool:  # noqa: N802
            return where != _RESONANCE_DECAYS and self._hopeless(with_decays(pythia8, event, pythia.process))

        def canVetoPartonLevel(self) -> bool:  # noqa: N802
            return True

        def doVetoPartonLevel(self, event: Any) -> bool:  # noqa: N802
            hopeless = self._hopeless(event)
            self.passed += not hopeless
            return hopeless

        def _hopeless(self, event: Any) -> bool:
            jets = self._jets
            jets.analyze(event)
            pt = [jets.pT(i) for i in range(jets.sizeJet()) if abs(jets.y(i)) < veto.abs_y_max]
            if len(pt) < len(veto.jets_pt) or sum(pt) < veto.ht_min:
                return True
            return any(value < least for value, least in zip(pt, veto.jets_pt, strict=False))

    return Hooks()


def with_decays(pythia8: Any, event: Any, process: Any) -> Any:
    """Event in which the decay products of the hard process replace its final top quarks.

    Parameters
    ----------
    pythia8 : module
    event : pythia8mc.Event
        Production shower so far.
    process : pythia8mc.Event
        The hard process with all decays.

    Returns
    -------
    pythia8mc.Event
        ``event`` itself where it has no top quark.
    """
    if not any(abs(process[i].id()) == _TOP for i in range(process.size())):
        return event
    tops = {event[i].id(): event[i].p() for i in range(event.size()) if _is_final_top(event[i])}
    if not tops:
        return event
    work = pythia8.Event(event)
    for i in range(work.size()):
        if _is_final_top(work[i]):
            work[i].statusNeg()
    for i in range(process.size()):
        top = _top_above(process, i) if process[i].isFinal() else 0
        if top:
            momentum = pythia8.Vec4(process[i].p())
            momentum.bstback(process[top].p())
            momentum.bst(tops[process[top].id()])
            work.append(process[i].id(), 23, 0, 0, momentum, process[i].m())
    return work


def _is_final_top(particle: Any) -> bool:
    return bool(particle.isFinal()) and abs(particle.id()) == _TOP


def _top_above(process: Any, index: int) -> int:
    """Position of the top quark that a particle comes from, 0 without one."""
    while index > 0 and abs(process[index].id()) != _TOP:
        index = process[index].mother1()
    return index
