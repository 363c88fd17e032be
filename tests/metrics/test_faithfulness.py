"""Faithfulness against slow references from the papers, captum, and a linear model by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum.metrics import infidelity as captum_infidelity
from scipy.stats import pearsonr, spearmanr

from hepxai.attribution import CHANNEL_PIXELS, PIXELS, Attribution
from hepxai.events import Events
from hepxai.explainers.methods import configure
from hepxai.metrics.faithfulness import (
    Removals,
    gini,
    infidelity,
    mean_of,
    quick_check,
    quick_concern,
    region_correlation,
    sensitivity_n,
)
from hepxai.metrics.removal_curves import RemovalCurve, random_curve, removal_curve
from hepxai.metrics.removals import RemovablePixels

SHAPE = (2, 5, 8)
RNG = np.random.default_rng(0)
WEIGHT = RNG.normal(size=SHAPE)


def make_events(n: int = 9, seed: int = 0, lit: float = 0.4) -> Events:
    """Real-valued images of two channels; the fourth is dark."""
    rng = np.random.default_rng(seed)
    images = rng.exponential(1, (n, *SHAPE)) * (rng.random((n, *SHAPE)) < lit)
    if n > 3:
        images[3] = 0
    events = Events.from_images(images.astype(np.float32), label=np.arange(n) % 2, classes=("g", "q"))
    return events.replace(weight=np.where(np.arange(n) % 5 == 4, -0.5, 1.0))


def linear(x: np.ndarray) -> np.ndarray:
    return np.asarray((x.astype(np.float64) * WEIGHT).sum((1, 2, 3)) + 0.7)


def network(x: np.ndarray) -> np.ndarray:
    """Pixels act together."""
    hidden = np.tanh(x.astype(np.float64).reshape(len(x), -1) @ MIXING)
    return np.asarray(hidden @ np.linspace(-1, 2, 6))


MIXING = RNG.normal(size=(int(np.prod(SHAPE)), 6)) * 0.2


def map_of(events: Events, values: np.ndarray, method: str = "toy") -> Attribution:
    return Attribution(values, PIXELS if values.ndim == 3 else CHANNEL_PIXELS, events, method, "q")


def exact(events: Events, *, channels: bool = False) -> Attribution:
    """Weight times pixel: the Integrated Gradients of the linear model."""
    values = events.image() * WEIGHT
    return map_of(events, values if channels else values.sum(1))


def noisy(events: Events, seed: int = 1) -> Attribution:
    return map_of(events, np.random.default_rng(seed).normal(size=(len(events), *SHAPE[1:])))


@pytest.fixture(scope="module")
def events() -> Events:
    return make_events()


# --- a linear model by hand --------------------------------------------------------------------------


@pytest.mark.parametrize("channels", [False, True])
@pytest.mark.parametrize("n", [None, 1, 3, 0.1, 0.5])
def test_the_exact_map_of_a_linear_model(events: Events, n: float | None, channels: bool) -> None:
    removals = Removals.sample(linear, events, n=n, draws=20)
    exact_map = exact(events, channels=channels)
    np.testing.assert_allclose(removals.totals(exact_map), removals.changes, atol=1e-5)
    used = np.arange(len(events)) != 3  # the dark image tells nothing
    for measure, best in ((sensitivity_n, 1.0), (region_correlation, 1.0), (infidelity, 0.0)):
        values = measure(removals, exact_map)
        np.testing.assert_allclose(values[used], best, atol=2e-3)
        assert np.isnan(values[3])
    np.testing.assert_allclose(infidelity(removals, exact_map, rescaled=False)[used], 0, atol=1e-6)


def test_curves_of_a_linear_model(events: Events) -> None:
    """By hand: contributions sorted by their sign towards the change, one pixel at a time."""
    many = 40
    curves = [removal_curve(linear, exact(events), inserts=i, steps=many) for i in (False, True)]
    for e in np.flatnonzero(np.arange(len(events)) != 3):
        parts = (events.image()[e] * WEIGHT).sum(0).ravel()
        parts = parts[events.image()[e].any(0).ravel()]
        change = parts.sum()
        order = np.sort(parts * np.sign(change))[::-1] / abs(change)
        cuts = np.round(np.arange(many + 1) * len(parts) / many).astype(int)
        inserted = np.concatenate([[0], np.cumsum(order)])[cuts]
        for curve, steps in zip(curves, (1 - inserted, inserted), strict=True):
            assert curve.areas[e] == pytest.approx(np.trapezoid(steps, dx=1 / many), abs=1e-5)
        assert curves[0].areas[e] + curves[1].areas[e] == pytest.approx(1, abs=1e-5)
    assert np.isnan(curves[0].areas[3])


def test_area_of_a_population_is_weighted_by_the_change(events: Events) -> None:
    curve = removal_curve(linear, noisy(events))
    size, weight = np.abs(curve.change), events.weight
    by_hand = np.nansum(weight * size * curve.areas) / np.sum(weight * size)
    assert curve.area.value == pytest.approx(by_hand)
    middle = (curve.mean.value[1:] + curve.mean.value[:-1]) / 2
    assert middle.mean() == pytest.approx(by_hand)
    assert (curve.mean.value[0], curve.mean.value[-1]) == pytest.approx((1, 0))
    assert "deletion" in repr(curve)


def test_chance_of_a_linear_model_is_one_half() -> None:
    events = make_events(60)
    area = random_curve(linear, events, orders=8).area
    assert abs(area.value - 0.5) < 4 * area.error
    own = removal_curve(linear, exact(events)).area
    assert own.value < area.value - 3 * area.error


# --- slow references from the papers -----------------------------------------------------------------


def without(image: np.ndarray, places: np.ndarray, baseline: float) -> np.ndarray:
    less = image.copy()
    less.reshape(SHAPE[0], -1)[:, places] = baseline
    return less


@pytest.mark.parametrize("baseline", [0.0, 0.3])
@pytest.mark.parametrize("n", [None, 4])
def test_sums_and_changes_one_by_one(events: Events, n: float | None, baseline: float) -> None:
    made, draws = noisy(events), 6
    removals = Removals.sample(network, events, n=n, draws=draws, baseline=baseline)
    pixels = RemovablePixels.of(events, baseline)
    chosen = pixels.blocks(draws, 0) if n is None else pixels.subsets(n, draws, 0)
    totals = removals.totals(made)
    for e, image in enumerate(events.image()):
        for m in range(draws):
            places = pixels.place[chosen[m] & (pixels.event == e)]
            change = network(image[None])[0] - network(without(image, places, baseline)[None])[0]
            assert removals.changes[e, m] == pytest.approx(change, abs=1e-6)
            assert totals[e, m] == pytest.approx(made.values[e].ravel()[places].sum(), abs=1e-9)
            if n is not None:
                assert len(places) == (n if len(np.unique(places)) else 0)
    used = np.ptp(removals.changes, axis=1) > 0
    slow = [spearmanr(a, b)[0] for a, b in zip(totals[used], removals.changes[used], strict=True)]
    np.testing.assert_allclose(region_correlation(removals, made)[used], slow)
    slow = [pearsonr(a, b)[0] for a, b in zip(totals[used], removals.changes[used], strict=True)]
    np.testing.assert_allclose(sensitivity_n(removals, made)[used], slow)


@pytest.mark.parametrize("rescaled", [False, True])
def test_infidelity_of_captum(events: Events, rescaled: bool) -> None:
    """Captum multiplies with the perturbation; the values have it already, so it is divided out."""
    draws, bright = 12, events[np.arange(len(events)) != 3]
    made = map_of(bright, np.random.default_rng(2).normal(size=(len(bright), *SHAPE)))
    removals = Removals.sample(network, bright, n=5, draws=draws)
    pixels = RemovablePixels.of(bright)
    images = torch.as_tensor(pixels.without(pixels.subsets(5, draws, 0))).transpose(0, 1)
    x = torch.as_tensor(bright.image())

    def perturb(inputs: Any) -> tuple[torch.Tensor, torch.Tensor]:
        less = images.reshape(-1, *SHAPE)
        return ((inputs - less) / torch.where(inputs == 0, 1.0, inputs)).float(), less

    slow = captum_infidelity(
        lambda images: torch.as_tensor(network(images.numpy())),
        perturb,
        x,
        torch.as_tensor(made.values),
        n_perturb_samples=draws,
        normalize=rescaled,
    ).numpy()
    expected = slow * draws / (removals.changes**2).sum(1)
    np.testing.assert_allclose(infidelity(removals, made, rescaled=rescaled), expected, rtol=1e-4)


def test_curve_one_image_at_a_time(events: Events) -> None:
    made, steps = noisy(events), 5
    for inserts in (False, True):
        curve = removal_curve(network, made, inserts=inserts, order="size", steps=steps)
        for e, image in enumerate(events.image()):
            lit = np.flatnonzero(image.any(0).ravel())
            order = lit[np.argsort(-np.abs(made.values[e].ravel()[lit]))]
            for k in range(steps + 1):
                cut = round(k * len(lit) / steps)
                removed = order[cut:] if inserts else order[:cut]
                value = network(without(image, removed, 0.0)[None])[0]
                assert curve.outputs[e, k] == pytest.approx(value, abs=1e-6)


def test_gini_by_pairs(events: Events) -> None:
    """Half of the mean absolute difference of two values, over the mean."""
    made = noisy(events)
    for e, value in enumerate(gini(made)):
        v = np.abs(made.values[e]).ravel()
        assert value == pytest.approx(np.abs(v[:, None] - v).mean() / (2 * v.mean()))
    one = np.zeros((1, *SHAPE[1:]))
    one[0, 2, 3] = -4
    assert gini(map_of(events[:1], one))[0] == pytest.approx(1 - 1 / 40)
    assert np.isnan(gini(map_of(events[:1], 0 * one))[0])
    assert gini(map_of(events[:1], 0 * one + 3))[0] == pytest.approx(0, abs=1e-12)


# --- maps without a sign, coarse maps, baselines -----------------------------------------------------


def test_a_map_without_a_sign_is_compared_with_the_size_of_changes(events: Events) -> None:
    removals = Removals.sample(linear, events, n=1, draws=20)
    size = map_of(events, np.abs(exact(events).values))
    np.testing.assert_allclose(np.delete(region_correlation(removals, size), 3), 1, atol=1e-9)
    np.testing.assert_allclose(np.delete(infidelity(removals, size), 3), 0, atol=1e-6)


def test_the_sign_is_that_of_the_method(events: Events) -> None:
    """A non-negative map of one event does not lose the sign of its method."""
    removals = Removals.sample(linear, events, n=1, draws=20)
    values = np.abs(exact(events).values)
    both = map_of(events, values).replace(sign="both")
    np.testing.assert_array_equal(removals.compared(both)[1], removals.changes)
    mixed = map_of(events, np.where(np.arange(len(events))[:, None, None] == 0, values, -values))
    few = mixed.replace(sign="positive")
    np.testing.assert_array_equal(removals.compared(few)[1], np.abs(removals.changes))


def test_streams_of_adjacent_seeds_differ(events: Events) -> None:
    pixels = RemovablePixels.of(events)
    streams = [pixels._seeds(seed, 4, i) for seed in range(3) for i in range(6)]
    assert len(np.unique(np.stack(streams))) == np.size(streams)


def test_a_constant_map_tells_nothing(events: Events) -> None:
    removals = Removals.sample(network, events, n=3)
    zero = map_of(events, np.zeros((len(events), *SHAPE[1:])))
    assert (np.delete(region_correlation(removals, zero), 3) == 0).all()
    assert (np.delete(sensitivity_n(removals, zero), 3) == 0).all()
    assert (np.delete(infidelity(removals, zero), 3) == 1).all()


def test_a_coarse_map_is_read_at_its_nearest_pixel(events: Events) -> None:
    coarse = np.random.default_rng(4).normal(size=(len(events), 5, 4))
    fine = map_of(events, np.repeat(coarse, 2, axis=2))
    removals = Removals.sample(network, events)
    np.testing.assert_array_equal(removals.totals(map_of(events, coarse)), removals.totals(fine))


def test_a_baseline_may_be_a_function_or_an_image(events: Events) -> None:
    def half(x: np.ndarray) -> np.ndarray:
        return x / 2

    change = Removals.sample(linear, events, n=0.999, baseline=half, draws=2).changes
    assert change.shape == (len(events), 2)
    curve = removal_curve(linear, exact(events), baseline=half)
    np.testing.assert_allclose(curve.outputs[:, -1], (linear(events.image()) + 0.7) / 2, rtol=1e-5)
    image = np.full(SHAPE, 0.2)
    curve = removal_curve(linear, exact(events), baseline=image)
    np.testing.assert_allclose(curve.outputs[:, -1], linear(image[None])[0], rtol=1e-5)


# --- events are independent ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "measure",
    [
        lambda a: removal_curve(network, a).outputs,
        lambda a: random_curve(network, a.events).outputs,
        lambda a: Removals.sample(network, a.events).changes,
        lambda a: region_correlation(Removals.sample(network, a.events, n=0.3), a),
        lambda a: infidelity(Removals.sample(network, a.events), a),
    ],
)
def test_an_event_alone_has_the_numbers_that_it_has_among_others(
    measure: Callable[[Attribution], np.ndarray], monkeypatch: pytest.MonkeyPatch, events: Events
) -> None:
    made = noisy(events)
    whole = measure(made)
    order = np.array([5, 1, 8, 0])
    np.testing.assert_allclose(measure(made[order]), whole[order], rtol=1e-6, atol=1e-9)
    monkeypatch.setattr("hepxai.metrics.removals.BUDGET", 200)  # several chunks
    np.testing.assert_allclose(measure(made), whole, rtol=1e-6, atol=1e-9)


def test_other_seeds_give_other_groups(events: Events) -> None:
    one, other = (Removals.sample(network, events, seed=s).changes for s in (0, 1))
    assert (one != other).any()


def test_blocks_hold_a_pixel_and_are_blocks(events: Events) -> None:
    pixels = RemovablePixels.of(events)
    for chosen in pixels.blocks(30, 3):
        for e in np.flatnonzero(pixels.counts):
            places = pixels.place[chosen & (pixels.event == e)]
            assert len(places)
            assert np.ptp(places // SHAPE[2]) < 2
            assert np.ptp(places % SHAPE[2]) < 3
    assert "9 images" in repr(pixels)


# --- the cheap check -----------------------------------------------------------------------------------


def test_quick_check() -> None:
    events = make_events(40)
    good, bad = (quick_check(linear, a) for a in (exact(events), noisy(events)))
    assert good["faithfulness"] == pytest.approx(1, abs=1e-3)
    assert good["faithfulness_events"] == 16
    assert not quick_concern(good)
    assert abs(bad["faithfulness"]) < 4 * bad["faithfulness_error"]
    (concern,) = quick_concern({**bad, "faithfulness": 0.01, "faithfulness_error": 0.02})
    assert "does not tell which regions change the output" in concern
    assert quick_check(linear, exact(events)) == good


@pytest.mark.parametrize(
    ("method", "settings", "sign"),
    [
        ("saliency", {}, "positive"),
        ("saliency", {"signed": True}, "both"),
        ("grad_cam", {}, "both"),
        ("grad_cam", {"relu": True}, "positive"),
        ("l2x", {}, "positive"),
        ("forgrad", {}, "positive"),
        ("forgrad", {"base": "grad_cam"}, "both"),
    ],
)
def test_sign_of_the_settings(method: str, settings: dict[str, Any], sign: str) -> None:
    assert configure(method, settings).sign_of_result() == sign


def test_nothing_to_check() -> None:
    dark = make_events(3, lit=0.0)
    assert quick_check(linear, noisy(dark)) == {}
    assert quick_check(linear, noisy(dark[:0])) == {}
    assert not quick_concern({})
    empty = noisy(dark[:0])
    assert removal_curve(linear, empty).outputs.shape == (0, 17)
    assert np.isnan(removal_curve(linear, noisy(dark)).area.value)
    assert np.isnan(mean_of(infidelity(Removals.sample(linear, empty.events), empty), np.ones(0)).value)


def test_bad_input(events: Events) -> None:
    with pytest.raises(ValueError, match="needs a map over pixels"):
        removal_curve(linear, Attribution(np.zeros((len(events), 2)), ("event", "feature"), events, "t", "q"))
    with pytest.raises(ValueError, match="at least 1 is needed"):
        removal_curve(linear, noisy(events), steps=0)
    with pytest.raises(ValueError, match="two draws or more"):
        Removals.sample(linear, events, draws=1)
    assert "blocks" in repr(Removals.sample(linear, events))
    assert isinstance(random_curve(linear, events), RemovalCurve)
