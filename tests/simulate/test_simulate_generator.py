"""Pythia events: settings, channels, truth."""

from __future__ import annotations

import numpy as np
import pytest
import simulate_helpers as helpers

from hepxai.simulate import ConfigError, MissingExtraError, generator
from hepxai.simulate.generator import generate
from hepxai.simulate.truth import comes_from, last_hadrons, w_quarks

pytest.importorskip("pythia8mc", reason="generating events needs the extra simulate")

CONFIG = helpers.shipped_config()


@pytest.fixture(scope="module")
def signal():
    """Twenty events of the channel in which the W of the H+ goes to quarks."""
    return generate(CONFIG.samples["signal"], "signal", 2, 1, 20)


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
    record = generate(CONFIG.samples["signal"], "signal", channel, 3, 4)
    electrons = np.flatnonzero((record.status > 0) & (np.abs(record.id) == 11))
    prompt = electrons[comes_from(record, electrons, 24)]
    assert np.all(-np.sign(record.id[prompt]) == charge)
    assert np.all(comes_from(record, prompt, 24, 37) == from_higgs)


def test_background_has_muons_of_the_stand_in_and_no_charged_higgs():
    record = generate(CONFIG.samples["background"], "background", 0, 3, 4)
    muons = np.flatnonzero((record.status > 0) & (np.abs(record.id) == 13))
    assert comes_from(record, muons, 25).sum() == 8
    assert not (np.abs(record.id) == 37).any()


def test_same_seed_same_events():
    first, again, other = (generate(CONFIG.samples["background"], "b", 0, s, 3) for s in (5, 5, 6))
    assert np.array_equal(first.px, again.px)
    assert not np.array_equal(first.px[:200], other.px[:200])


def test_unknown_setting_names_file_and_line():
    sample = CONFIG.samples["signal"].model_copy(update={"commands": "Beams:eCM = 13000.\nTop:gg2tbar = on"})
    with pytest.raises(ConfigError, match=r"signal\.cmnd, line 2: Pythia does not know .*Top:gg2tbar"):
        generate(sample, "signal", 0, 1, 1)


def test_unknown_channel_setting_names_the_channel():
    channel = CONFIG.samples["signal"].channels[0].model_copy(update={"settings": ("no such thing",)})
    sample = CONFIG.samples["signal"].model_copy(update={"channels": (channel,)})
    with pytest.raises(ConfigError, match=r"samples\.signal\.channels\.0 .* line 1"):
        generate(sample, "signal", 0, 1, 1)


def test_settings_without_a_process():
    sample = CONFIG.samples["signal"].model_copy(update={"commands": "Beams:eCM = 13000."})
    with pytest.raises(ConfigError, match=r"cannot start with signal\.cmnd"):
        generate(sample, "signal", 0, 1, 1)


def test_missing_package_says_what_to_install():
    with pytest.raises(MissingExtraError, match=r"pip install hepxai\[simulate\]"):
        generator.import_generator("a_package_that_is_not_there")
