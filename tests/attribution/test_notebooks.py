"""Attributions and estimates in notebooks and as arrays."""

from __future__ import annotations

import numpy as np
from toy_maps import make_map

from hepxai.core.estimate import LONGEST, Estimate


def test_arrays_are_the_values(toy) -> None:
    attribution = make_map(toy(10))
    assert np.asarray(attribution) is attribution.values
    assert np.array(attribution) is not attribution.values
    assert np.asarray(attribution, dtype=np.float32).dtype == np.float32
    assert np.abs(attribution).shape == attribution.values.shape
    mean = attribution.population()
    assert float(np.asarray(mean)) == float(mean.value)


def test_attributions_show_checks_and_concerns(toy) -> None:
    attribution = make_map(toy(30)).replace(
        checks={"median_residual": 0.25}, concerns=("does <not> add up",), title="Edge <IG>"
    )
    text = attribution._repr_html_()
    events = attribution.events
    for name, code in (("background", 0), ("signal", 1)):
        assert f"mean of {name}" in text
        assert attribution.population(events.label == code).text in text
    for part in (
        "Edge &lt;IG&gt; of signal",
        "0.25",
        "Caution: does &lt;not&gt; add up",
        f"pair {len(np.asarray(attribution)):,}",
    ):
        assert part in text
    assert "<IG>" not in text


def test_an_empty_population_shows_itself(toy) -> None:
    assert "mean of signal" in make_map(toy(10))[:0]._repr_html_()


def test_estimates_show_each_value() -> None:
    one = Estimate(np.asarray(1.234), np.asarray(0.056), 12.0)
    assert "1.234 ± 0.056" in one._repr_html_()
    many = Estimate(np.arange(LONGEST + 5.0), np.full(LONGEST + 5, 0.5), 12.0)
    text = many._repr_html_()
    assert text.count("<tr>") == LONGEST + 1
    assert "5 more values" in text
    assert "3.00 ± 0.50" in text
    table = Estimate(np.ones((2, 2)), np.ones((2, 2)), 3.0, (np.zeros((2, 2)), np.full((2, 2), 4.0)))
    assert table.at((0, 1)).text == "1.0 +3.0 -1.0"
    assert "1, 0" in table._repr_html_()
