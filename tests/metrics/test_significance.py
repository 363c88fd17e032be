"""Expected significance and limits: analytic formulae, toys of a counting experiment, pyhf where it is."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import optimize, stats
from scipy.special import xlogy

from hepxai.metrics.significance import (
    FEWEST,
    Selection,
    best_cut,
    cut_scan,
    cuts_of,
    discovery_significance,
    expected_limit,
    limit_statistic,
    scaled_to_all,
    working_point,
)

Float = np.ndarray


def log_likelihood(mu_s: Float, b: Float, n: Float, m: Float, tau: float) -> Float:
    return xlogy(n, mu_s + b) - mu_s - b + xlogy(m, tau * b) - tau * b


def fitted_background(mu_s: Float, n: Float, m: Float, tau: float) -> Float:
    """Background that maximises the likelihood at a fixed signal."""
    half = (n + m - (1 + tau) * mu_s) / (2 * (1 + tau))
    return half + np.sqrt(half**2 + m * mu_s / (1 + tau))


def slow_statistic(mu: float, s: float, n: Float, m: Float, tau: float) -> Float:
    """q̃_μ of observed counts, for μ > 0; and q_0 for μ = 0."""
    fit = (n - m / tau) / s
    best = np.maximum(fit, 0.0)
    ratio = log_likelihood(mu * s, fitted_background(mu * s, n, m, tau), n, m, tau) - log_likelihood(
        best * s, np.where(fit > 0, m / tau, (n + m) / (1 + tau)), n, m, tau
    )
    used = fit <= mu if mu > 0 else fit > 0
    return np.where(used, -2 * ratio, 0.0)


POINTS = [(10.0, 50.0, 5.0), (3.0, 4.0, 1.0), (0.5, 100.0, 20.0), (40.0, 20.0, 0.1), (5.0, 8.0, 8.0)]


@pytest.mark.parametrize(("s", "b", "sigma"), POINTS)
def test_asimov_values_are_those_of_the_likelihood(s: float, b: float, sigma: float) -> None:
    tau = b / sigma**2
    q0 = slow_statistic(0.0, s, np.array(s + b), np.array(tau * b), tau)
    assert discovery_significance(s, b, sigma) == pytest.approx(np.sqrt(float(q0)), rel=1e-6)
    for mu in (0.3, 1.0, 4.0):
        slow = slow_statistic(mu, s, np.array(b), np.array(tau * b), tau)
        assert limit_statistic(mu, s, b, sigma) == pytest.approx(float(slow), rel=1e-6, abs=1e-10)


def test_published_formula() -> None:
    """Eq. 97 of arXiv:1007.1727, and the one with an uncertain background as it is usually written."""
    s, b, sigma = 7.0, 12.0, 3.0
    assert discovery_significance(s, b) == pytest.approx(np.sqrt(2 * ((s + b) * np.log(1 + s / b) - s)))
    n, v = s + b, sigma**2
    usual = 2 * (n * np.log(n * (b + v) / (b**2 + n * v)) - b**2 / v * np.log(1 + v * s / (b * (b + v))))
    assert discovery_significance(s, b, sigma) == pytest.approx(np.sqrt(usual))


def test_limits_of_the_formulae() -> None:
    """s/√(b + σ²) for many events; no jump where σ vanishes; less with a larger σ; 0 without signal."""
    assert discovery_significance(100, 1e6, 1e3) == pytest.approx(100 / np.sqrt(2e6), rel=1e-3)
    assert discovery_significance(5, 10, 1e-7) == pytest.approx(
        float(discovery_significance(5, 10)), rel=1e-9
    )
    assert limit_statistic(1, 5, 10, 1e-7) == pytest.approx(float(limit_statistic(1, 5, 10)), rel=1e-9)
    assert (np.diff(discovery_significance(5, 10, np.linspace(0, 10, 30))) < 0).all()
    assert discovery_significance(0, 10, 1) == 0
    assert discovery_significance(-2, 10, 1) == 0
    assert np.isnan(discovery_significance(5, [0, -3.0])).all()
    gauss = np.sqrt(1e6 + 1e6) / 100
    n = np.array([-2, -1, 0, 1, 2])
    expected = gauss * (stats.norm.isf(0.05 * stats.norm.cdf(n)) + n)
    np.testing.assert_allclose(expected_limit(100, 1e6, 1e3), expected, rtol=0.01)
    assert expected[2] == pytest.approx(1.96 * gauss, rel=1e-3)


@pytest.mark.parametrize(("s", "b"), [(0, 10), (-1, 10), (5, 0), (5, -2)])
def test_no_limit_without_signal_or_background(s: float, b: float) -> None:
    assert np.isnan(expected_limit(s, b)).all()


@pytest.mark.parametrize("level", [0, 1, 95])
def test_confidence_level(level: float) -> None:
    with pytest.raises(ValueError, match=r"between 0 and 1, such as 0.95"):
        expected_limit(1, 1, level=level)
    assert expected_limit(10, 50, 5, level=0.9)[2] < expected_limit(10, 50, 5, level=0.95)[2]


@pytest.mark.parametrize(("s", "b", "sigma"), [(15.0, 40.0, 3.0), (30.0, 100.0, 10.0)])
def test_discovery_by_toys(s: float, b: float, sigma: float) -> None:
    """The p-value of the Asimov data under background alone, and the median of toys with signal."""
    rng, tau = np.random.default_rng(0), b / sigma**2
    expected = float(discovery_significance(s, b, sigma))
    toys = (rng.poisson(b, 400_000), rng.poisson(tau * b, 400_000))
    p = np.mean(slow_statistic(0.0, s, *toys, tau) >= expected**2)
    assert stats.norm.isf(p) == pytest.approx(expected, rel=0.04)
    with_signal = slow_statistic(0.0, s, rng.poisson(s + b, 100_000), rng.poisson(tau * b, 100_000), tau)
    assert np.sqrt(np.median(with_signal)) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize(("s", "b", "sigma"), [(15.0, 40.0, 3.0), (30.0, 100.0, 10.0)])
def test_limit_by_toys(s: float, b: float, sigma: float) -> None:
    """CLs by toys at the expected limits, for data at the same quantiles of background alone."""
    rng, tau, size = np.random.default_rng(1), b / sigma**2, 400_000
    auxiliary = rng.poisson(tau * b, size)
    for n, limit in zip((-1, 0, 1), expected_limit(s, b, sigma)[1:4], strict=True):
        alone = slow_statistic(limit, s, rng.poisson(b, size), auxiliary, tau)
        fitted = fitted_background(np.array(limit * s), np.array(b), np.array(tau * b), tau)
        mu_toys = (rng.poisson(limit * s + fitted, size), rng.poisson(tau * fitted, size))
        signal = slow_statistic(limit, s, *mu_toys, tau)
        observed = np.quantile(alone, 1 - stats.norm.cdf(n))
        cls = np.mean(signal >= observed) / np.mean(alone >= observed)
        assert cls == pytest.approx(0.05, rel=0.15), n


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_pyhf_agrees() -> None:
    pyhf = pytest.importorskip("pyhf")
    s, b, sigma = 10.0, 50.0, 5.0
    model = pyhf.simplemodels.uncorrelated_background([s], [b], [sigma])  # shapesys: Poisson auxiliary
    data = [b, *model.config.auxdata]
    observed, expected = pyhf.infer.intervals.upper_limits.upper_limit(data, model, level=0.05)
    assert float(observed) == pytest.approx(expected_limit(s, b, sigma)[2], rel=0.01)
    np.testing.assert_allclose(np.array(expected, dtype=float), expected_limit(s, b, sigma), rtol=0.02)


# --- working points -------------------------------------------------------------------------------


def sample(seed: int = 0, size: int = 4000, *, negative: float = 0.1) -> tuple[Float, Float, Float]:
    rng = np.random.default_rng(seed)
    signal = rng.random(size) < 0.3
    score = rng.normal(np.where(signal, 1.0, -1.0), 1.0)
    weight = rng.choice([1.0, -1.0], size, p=[1 - negative, negative]) * np.where(signal, 0.02, 0.4)
    return score, signal, weight


def test_scan_against_a_loop() -> None:
    score, signal, weight = sample()
    score = np.round(score, 1)  # ties
    cuts = np.array([-2.0, 0.0, 0.3, 9.0])
    scan = cut_scan(score, signal, weight, cuts, relative=0.1)
    for i, cut in enumerate(cuts):
        b = weight[(score >= cut) & ~signal]
        assert scan["signal"][i] == pytest.approx(weight[(score >= cut) & signal].sum())
        assert scan["background"][i] == pytest.approx(b.sum())
        assert scan["error"][i] == pytest.approx(np.sqrt(np.sum(b**2) + (0.1 * b.sum()) ** 2))
        assert scan["n_eff"][i] == pytest.approx(b.sum() ** 2 / max(np.sum(b**2), 1e-12))


def test_working_point_against_the_formulae() -> None:
    score, signal, weight = sample()
    cut = best_cut(score, signal, weight, relative=0.05)
    point = working_point(score, signal, weight, cut, relative=0.05)
    s, b = (weight[(score >= cut) & of].sum() for of in (signal, ~signal))
    sigma = np.sqrt(np.sum(weight[(score >= cut) & ~signal] ** 2) + (0.05 * b) ** 2)
    assert (float(point.signal.value), float(point.background.value)) == pytest.approx((s, b))
    assert float(point.background_error.value) == pytest.approx(sigma)
    assert float(point.significance.value) == pytest.approx(float(discovery_significance(s, b, sigma)))
    np.testing.assert_allclose(point.bands, expected_limit(s, b, sigma))
    assert float(point.limit.value) == point.bands[2]
    scan = cut_scan(score, signal, weight, cuts_of(score, signal), relative=0.05)
    others = discovery_significance(scan["signal"], scan["background"], scan["error"])
    assert float(point.significance.value) == pytest.approx(others[scan["n_eff"] >= FEWEST].max())


def test_scaling_and_order_of_events() -> None:
    """More luminosity at a background that is known relatively: Z grows, by less than its root."""
    score, signal, weight = sample(size=20_000, negative=0.0)
    few, more = (working_point(score, signal, f * weight, 0.5) for f in (1e-3, 4e-3))
    assert 1 < more.significance.value / few.significance.value < 2
    assert 1 > more.limit.value / few.limit.value > 0.25
    order = np.random.default_rng(0).permutation(len(score))
    same = working_point(score[order], signal[order], weight[order], 0.5)
    assert float(same.limit.value) == pytest.approx(
        float(working_point(score, signal, weight, 0.5).limit.value)
    )


@pytest.mark.parametrize("relative", [0.0, 0.2])
def test_coverage_of_the_errors(relative: float) -> None:
    """The spread of Z and of the limit over 300 simulated samples is their error."""
    points = []
    for seed in range(300):
        rng = np.random.default_rng(seed)
        score, signal, weight = sample(seed, int(rng.poisson(3000)))
        points.append(working_point(score, signal, weight, 0.7, relative=relative))
    for name in ("significance", "limit", "signal", "background"):
        estimates = [getattr(p, name) for p in points]
        values, errors = (np.array([float(getattr(e, k)) for e in estimates]) for k in ("value", "error"))
        assert errors.mean() == pytest.approx(values.std(ddof=1), rel=0.15), name
        inside = np.mean(np.abs(values - values.mean()) < errors)
        assert 0.6 < inside < 0.76, name


def test_a_part_stands_for_all_events() -> None:
    score, signal, weight = sample(size=30_000)
    rows = np.random.default_rng(3).random(len(score)) < 0.1
    scaled = scaled_to_all(weight, signal.astype(np.int64), rows)
    for of in (signal, ~signal):
        error = np.sqrt(np.sum(scaled[of[rows]] ** 2))
        assert abs(scaled[of[rows]].sum() - weight[of].sum()) < 4 * error
    np.testing.assert_array_equal(
        scaled_to_all(weight, signal.astype(np.int64), np.ones(len(score), bool)), weight
    )


def test_signed_weights_that_cancel_are_refused() -> None:
    score, signal, weight = sample()
    above = (score >= 0.5) & ~signal
    weight[above] = -0.4
    with pytest.raises(ValueError, match=r"expected background above the cut at 0.5 is -.* a lower cut"):
        working_point(score, signal, weight, 0.5)
    working_point(score, signal, weight, -3.0)  # the remedy
    with pytest.raises(
        ValueError, match=r"expected background above the cut at 99 is 0 events, .* no simulated event"
    ):
        working_point(score, signal, weight, 99.0)
    weight[~signal] = -1.0
    with pytest.raises(ValueError, match="no cut keeps signal and 10 effective background events"):
        best_cut(score, signal, weight)
    with pytest.raises(ValueError, match="no signal event"):
        best_cut(score, np.zeros(len(score), bool), weight)


def test_nan_is_refused() -> None:
    score, signal, weight = sample()
    score[3] = np.nan
    with pytest.raises(ValueError, match="1 of 4000 values of score are NaN; leave these events out"):
        working_point(score, signal, weight, 0.0)


@pytest.mark.parametrize(
    ("scale", "cut", "text"),
    [
        (1e-3, 0.5, "expected background events: the asymptotic formulae hold from about 5"),
        (1.0, 1.9, "effective background events are simulated above the cut"),
        (100.0, 0.5, "the statistical error of the simulated background is the largest"),
    ],
)
def test_concerns(scale: float, cut: float, text: str) -> None:
    score, signal, weight = sample()
    weight = np.where(signal, weight, scale * np.abs(weight))
    assert any(text in c for c in working_point(score, signal, weight, cut).concerns)
    assert not working_point(score, signal, np.abs(sample()[2]) / 2, 0.0).concerns


def test_selection_of_single_events() -> None:
    """√Σw² as the error of a sum, exactly."""
    selected = Selection(np.array([1.0, 2.0]), np.array([3.0, -1.0]))
    assert float(selected.estimate(lambda s, b, sigma: s).error) == pytest.approx(np.sqrt(5))
    assert float(selected.estimate(lambda s, b, sigma: b).error) == pytest.approx(np.sqrt(10))
    assert float(selected.estimate(lambda s, b, sigma: sigma**2).error) == pytest.approx(np.sqrt(82))
    assert optimize.brentq(lambda mu: float(np.sqrt(limit_statistic(mu, 5, 20, 2))) - 1.96, 0, 50) == (
        pytest.approx(expected_limit(5, 20, 2)[2], rel=1e-3)
    )
