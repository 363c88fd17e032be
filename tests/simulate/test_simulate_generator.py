"""Pythia events: settings, channels, truth."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.cards import CardError
from hepxai.simulate import MissingExtraError
from hepxai.simulate.generator import EventRecord, chunk_seed, import_generator
from hepxai.simulate.settings import Part
from hepxai.simulate.truth import comes_from, last_hadrons, w_quarks

pytest.importorskip("pythia8mc", reason="generating events needs the extra simulate")


def generate(sample: str, channel: int, events: int, **changes) -> EventRecord:
    return helpers.simulation(sample, **changes).generate(channel, events)[0]


@pytest.fixture(scope="module")
def signal():
    """Twenty events of the channel in which the W of the H+ goes to quarks."""
    return generate("signal", 2, 20)


def test_signal_has_two_muons_of_the_a_and_one_electron(signal):
    stable = signal.status > 0
    for pdg, parent, grandparent in ((13, 36, 37), (-13, 36, 37)):
        index = np.flatnonzero(stable & (signal.id == pdg))
        prompt = index[comes_from(signal, index, parent, grandparent)]
        assert signal.event[prompt].tolist() == list(range(20))
    electrons = np.flatnonzero(stable & (np.abs(signal.id) == 11))
    prompt = electrons[comes_from(signal, electrons, 24)]
    assert signal.event[prompt].tolist() == list(range(20))
    assert not comes_from(signal, prompt, 24, 37).any()
    assert np.bincount(signal.event[w_quarks(signal)]).tolist() == [2] * 20


def test_ancestry_is_the_climb_through_the_record(signal):
    index = np.flatnonzero((signal.status > 0) & (np.abs(signal.id) == 13))
    slow = []
    for start in index:
        current = start
        while signal.id[current] == signal.id[start]:
            current = signal.mother[current]
        slow.append(abs(signal.id[current]) == 36)
    assert comes_from(signal, index, 36).tolist() == slow


def test_momentum_is_conserved(signal):
    stable = signal.status > 0
    for component, total in (("px", 0), ("py", 0), ("pz", 0), ("energy", 13000)):
        sums = np.bincount(signal.event[stable], weights=getattr(signal, component)[stable])
        np.testing.assert_allclose(sums, total, atol=0.02)


def test_b_hadrons_decay_once(signal):
    b = last_hadrons(signal, 5)
    assert np.all(np.bincount(signal.event[b], minlength=20) >= 2)
    daughters = signal.id[np.isin(signal.mother, b)]
    assert not np.isin(np.abs(daughters), [511, 521, 531, 5122]).any()


@pytest.mark.parametrize(("channel", "charge", "from_higgs"), [(0, 1, True), (1, -1, True), (3, 1, False)])
def test_channels_choose_the_electron(channel, charge, from_higgs):
    record = generate("signal", channel, 4)
    electrons = np.flatnonzero((record.status > 0) & (np.abs(record.id) == 11))
    prompt = electrons[comes_from(record, electrons, 24)]
    assert np.all(-np.sign(record.id[prompt]) == charge)
    assert np.all(comes_from(record, prompt, 24, 37) == from_higgs)


def test_background_has_muons_of_the_stand_in_and_no_charged_higgs():
    record = generate("background", 0, 4)
    muons = np.flatnonzero((record.status > 0) & (np.abs(record.id) == 13))
    assert comes_from(record, muons, 25).sum() == 8
    assert not (np.abs(record.id) == 37).any()


def test_same_seed_same_events():
    first, again, other = (generate("background", index, 3) for index in (0, 0, 4))
    assert np.array_equal(first.px, again.px)
    assert not np.array_equal(first.px[:200], other.px[:200])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"commands": "Beams:eCM = 13000.\nTop:gg2tbar = on"},
            r"signal\.cmnd, line 2: Pythia does not know .*Top:gg2tbar",
        ),
        (
            {"channels": (Part(name="all", settings=("no such thing",)),)},
            r"samples\.signal\.channels\.0 .* line 1",
        ),
        ({"commands": "Beams:eCM = 13000."}, r"cannot start with signal\.cmnd"),
    ],
    ids=["unknown setting", "unknown setting of a channel", "no process"],
)
def test_wrong_settings_are_named(changes, message):
    with pytest.raises(CardError, match=message):
        generate("signal", 0, 1, **changes)


def test_missing_package_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"pip install hepxai\[simulate\]"):
        import_generator("a_package_that_is_not_there")


def test_seeds_never_repeat_within_a_sample():
    seeds = {chunk_seed(1, "signal", i) for i in range(2000)}
    assert len(seeds) == 2000
    assert all(1 <= s <= 900_000_000 for s in seeds)
    assert not seeds & {chunk_seed(2, "signal", i) for i in range(2000)}
