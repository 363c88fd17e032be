"""Settings: what is accepted, and what the errors say."""

from __future__ import annotations

import pytest
import simulate_helpers as helpers

from hepxai.simulate import ConfigError, load_config
from hepxai.simulate.config import digest


def test_shipped_settings_are_valid():
    config = load_config(helpers.SHIPPED)
    assert list(config.samples) == ["signal", "background"]
    assert "gg2ttbar" in config.samples["signal"].commands
    assert config == load_config(helpers.SHIPPED / "simulate.yaml")


def test_seed_is_replaced():
    assert load_config(helpers.SHIPPED, seed=7).seed == 7


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("detector.muon.efficiency.plateau", 1.5, "less than or equal to 1, found 1.5"),
        ("detector.jet.pt_min", -3.0, "greater than 0"),
        ("detector.jet.pt_min", float("nan"), "finite number"),
        ("detector.electron.isolation.cones", 0.3, "Extra inputs are not permitted"),
        ("selection.muons", 1, "greater than or equal to 2"),
        ("chunk_events", 0, "greater than or equal to 1"),
        ("samples.signal.channels", [], "at least 1 item"),
        ("seed", -1, "greater than or equal to 0"),
    ],
)
def test_bad_value_names_file_and_key(tmp_path, key, value, message):
    content = helpers.settings()
    *path, last = key.split(".")
    inner = content
    for step in path:
        inner = inner[step]
    inner[last] = value
    with pytest.raises(ConfigError) as error:
        load_config(helpers.write_settings(tmp_path, content))
    assert "simulate.yaml" in str(error.value)
    assert f"{key}: " in str(error.value)
    assert message in str(error.value)


def test_two_samples_with_one_run_number(tmp_path):
    content = helpers.settings()
    content["samples"]["background"]["run"] = 1
    with pytest.raises(ConfigError, match="two samples share a run number"):
        load_config(helpers.write_settings(tmp_path, content))


@pytest.mark.parametrize("particle", ["muon", "jet"])
def test_resolution_bins_must_cover_the_acceptance(tmp_path, particle):
    content = helpers.settings()
    content["detector"][particle]["resolution"] = [{"abs_eta_max": 1.0}]
    with pytest.raises(ConfigError, match=f"detector.{particle}: .*end below abs_eta_max"):
        load_config(helpers.write_settings(tmp_path, content))


def test_resolution_bins_must_rise(tmp_path):
    content = helpers.settings()
    content["detector"]["muon"]["resolution"] = [{"abs_eta_max": 2.5}, {"abs_eta_max": 1.0}]
    with pytest.raises(ConfigError, match="abs_eta_max must rise"):
        load_config(helpers.write_settings(tmp_path, content))


def test_missing_cmnd_names_the_file(tmp_path):
    folder = helpers.write_settings(tmp_path, helpers.settings())
    (folder / "signal.cmnd").unlink()
    with pytest.raises(ConfigError, match=r"samples\.signal\.cmnd: no generator settings at .*signal\.cmnd"):
        load_config(folder)


@pytest.mark.parametrize(("text", "message"), [("a: [", "not readable as YAML"), ("- 1", "found list")])
def test_not_a_settings_file(tmp_path, text, message):
    (tmp_path / "simulate.yaml").write_text(text)
    with pytest.raises(ConfigError, match=message):
        load_config(tmp_path)


def test_no_settings_file(tmp_path):
    with pytest.raises(ConfigError, match="no such file"):
        load_config(tmp_path)


def test_long_values_are_shortened(tmp_path):
    content = helpers.settings()
    content["seed"] = "x" * 500
    with pytest.raises(ConfigError) as error:
        load_config(helpers.write_settings(tmp_path, content))
    assert len(str(error.value)) < 400


def test_settings_of_a_sample_ignore_the_others():
    config = helpers.shipped_config()
    other = config.samples["background"].model_copy(update={"commands": "changed"})
    changed = config.model_copy(update={"samples": {**config.samples, "background": other}})
    assert digest(config.settings_of("signal")) == digest(changed.settings_of("signal"))
    assert digest(config.settings_of("background")) != digest(changed.settings_of("background"))
