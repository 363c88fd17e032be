"""Settings of the multijet events: what is accepted, and what the errors say."""

from __future__ import annotations

from itertools import pairwise

import multijet_helpers as helpers
import pytest

from hepxai.simulate import ConfigError
from hepxai.simulate.config import digest
from hepxai.simulate.multijet import load_multijet
from hepxai.simulate.settings import find_settings, generator_of


def test_shipped_settings_are_valid():
    config = helpers.shipped_config()
    assert list(config.samples) == ["signal", "background"]
    assert "HardQCD:all" in config.samples["background"].commands
    assert config == load_multijet(helpers.SHIPPED / "simulate.yaml")


def test_the_command_finds_what_makes_them():
    assert generator_of(find_settings("ttbar_qcd")).__name__ == "simulate_multijet"


def test_shipped_slices_are_exclusive_and_leave_no_gap():
    limits = [
        {line.split("=")[0].strip(): float(line.split("=")[1]) for line in part.settings}
        for part in helpers.shipped_config().samples["background"].slices
    ]
    for low, high in pairwise(limits):
        assert low["PhaseSpace:pTHatMax"] == high["PhaseSpace:pTHatMin"]
    assert "PhaseSpace:pTHatMax" not in limits[-1]


def test_seed_is_replaced():
    assert load_multijet(helpers.SHIPPED, seed=7).seed == 7


def test_a_sample_is_determined_by_its_own_settings_alone():
    config = helpers.shipped_config()
    assert list(config.settings_of("signal")["samples"]) == ["signal"]
    assert digest(config.settings_of("signal")) != digest(config.settings_of("background"))


def broken(path, value):
    """Shipped settings with one entry changed."""
    content = helpers.settings()
    *folder, name = path
    inside = content
    for key in folder:
        inside = inside[key]
    inside[name] = value
    return content


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["chunk_events"], 500, r"chunk_events: Extra inputs are not permitted, found 500"),
        (["samples", "signal", "slices"], [], r"samples\.signal\.slices: .* at least 1 item"),
        (
            ["samples", "signal", "slices", 0, "events"],
            0,
            r"slices\.0\.events: .* or equal to 1",
        ),
        (["samples", "signal", "run"], 202, r"two samples share a run number: \[202, 202\]"),
        (
            ["samples", "signal", "cmnd"],
            "x.cmnd",
            r"signal\.cmnd: no generator settings at .*x\.cmnd",
        ),
        (["veto", "jets_pt"], [20, 30], r"veto\.jets_pt: .* must not rise from one to the next"),
        (["veto", "scale"], 0, r"veto\.scale: .* greater than 0, found 0"),
        (["detector", "quark_gluon", "pt_d"], "much", r"quark_gluon\.pt_d: .* valid number"),
        (["detector", "tracks", "resolution"], [{"abs_eta_max": 1.0}], r"end below abs_eta_max = 2\.5"),
        (["selection", "jets_min"], -1, r"selection\.jets_min: .* greater than or equal to 0"),
    ],
)
def test_what_is_wrong_is_named(tmp_path, path, value, message):
    folder = helpers.write_settings(tmp_path, broken(path, value))
    with pytest.raises(ConfigError, match=message) as error:
        load_multijet(folder)
    assert str(folder / "simulate.yaml") in str(error.value)
