"""Active neurons: the sums in loops, what errors do to the count, and the width that is recommended."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import pytest

from hepxai.attribution import Attribution
from hepxai.core.estimate import Estimate
from hepxai.events import Events
from hepxai.studies.capacity.numbers import Training, WidthPoint, WidthStudy, active_neurons

ToyEvents = Callable[..., Events]


def conductance(events: Events, **layers: np.ndarray) -> Attribution:
    labels = tuple(f"{name}:{i}" for name, v in layers.items() for i in range(v.shape[1]))
    values = np.concatenate(list(layers.values()), axis=1)
    return Attribution(
        values, ("event", "neuron"), events, "conductance", "signal", labels={"neuron": labels}
    )


@pytest.fixture
def events(toy: ToyEvents) -> Events:
    return toy(400, largest=0)


def drawn(events: Events, sizes: list[float], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(len(events), len(sizes))) * sizes


def share_by_loops(values: np.ndarray, events: Events, neurons: list[int], label: int | None) -> float:
    part = whole = 0.0
    for row, w, own in zip(values, events.weight, events.label, strict=True):
        if label is None or own == label:
            part += w * sum(abs(row[j]) for j in neurons)
            whole += w * sum(abs(v) for v in row)
    return part / whole


def test_equals_the_sums_in_loops(events: Events) -> None:
    values = drawn(events, [1, 0.5, 0.02, 0, 0.3, 0.01])
    (found,) = active_neurons(conductance(events, one=values))
    assert found.layer == "one"
    np.testing.assert_allclose(
        found.share.value, [share_by_loops(values, events, [j], None) for j in range(6)], atol=1e-12
    )
    assert found.active.tolist() == [True, True, False, False, True, False]
    idle = np.flatnonzero(~found.active).tolist()
    assert float(found.carried.value) == pytest.approx(share_by_loops(values, events, idle, None))
    for label in (None, 0, 1):
        assert share_by_loops(values, events, idle, label) < 0.05
        assert share_by_loops(values, events, [*idle, 4], label) > 0.05


def test_both_signs_are_no_idleness(events: Events) -> None:
    """Their mean is compatible with 0, but they decide."""
    (found,) = active_neurons(conductance(events, one=drawn(events, [1, 1, 1, 1])))
    assert found.active.all()
    assert found.undecided >= 3
    (pushing,) = active_neurons(conductance(events, one=drawn(events, [1, 1]) + 5))
    assert pushing.undecided == 0


def test_a_neuron_of_one_class_only_is_active(events: Events) -> None:
    values = drawn(events, [1.0, 0.5])
    rare = np.zeros(len(events), dtype=np.int64)
    rare[:12] = 1
    values[:, 1] *= rare * 0.3
    (found,) = active_neurons(conductance(events.replace(label=rare), one=values))
    assert float(found.share.value[1]) < 0.02
    assert found.active.all()


def test_what_is_spared_is_bounded_for_all_together(events: Events) -> None:
    """A hundred neurons of half a percent each are half of the layer: most of them stay."""
    values = drawn(events, [1.0] * 10 + [0.1] * 100)
    (found,) = active_neurons(conductance(events, one=values))
    assert float(found.carried.value) < 0.05
    assert 95 < found.active.sum() <= 105


def test_few_events_keep_more_neurons(toy: ToyEvents) -> None:
    many = toy(2000, largest=0)
    values = drawn(many, [1, 1, 0.05, 0.045])
    counts = []
    for n in (2000, 8):
        (found,) = active_neurons(conductance(many[:n], one=values[:n]))
        counts.append(int(found.active.sum()))
        assert found.fewest <= found.active.sum()
    assert counts[0] <= counts[1]


def test_layers_by_themselves_and_dead_ones(events: Events) -> None:
    dead = np.zeros((len(events), 3))
    first, second = active_neurons(conductance(events, one=drawn(events, [1, 0]), two=dead))
    assert first.active.tolist() == [True, False]
    assert second.active.sum() == 1  # a layer needs a neuron
    assert second.undecided == 3


def test_order_of_neurons_and_scale_do_not_matter(events: Events) -> None:
    values = drawn(events, [1, 0.5, 0.02, 0, 0.3, 0.01])
    turn = np.random.default_rng(3).permutation(6)
    (one,), (other,) = (active_neurons(conductance(events, a=v)) for v in (values, 7 * values[:, turn]))
    assert np.array_equal(one.active[turn], other.active)


def test_bad_input(events: Events) -> None:
    found = conductance(events, one=drawn(events, [1, 1]))
    with pytest.raises(ValueError, match="spare=0; a share above 0"):
        active_neurons(found, spare=0)
    with pytest.raises(ValueError, match="there are no events"):
        active_neurons(conductance(events[:0], one=np.zeros((0, 2))))
    wrong = Attribution(
        np.zeros((len(events), 2)), ("event", "feature"), events, "x", "y", labels={"feature": ("a", "b")}
    )
    with pytest.raises(ValueError, match="axes are event, feature; conductance has event, neuron"):
        active_neurons(wrong)


# --- over widths ---------------------------------------------------------------------------------------


def trained(width: int, seed: int, train: float, valid: float, active: int) -> Training:
    def figures(value: float) -> Mapping[str, Estimate]:
        return {"balanced_accuracy": Estimate(np.asarray(value), np.asarray(0.004), 900.0)}

    return Training(
        (width, width),
        seed,
        {"train": figures(train), "valid": figures(valid)},
        (active, active - 1),
        (active - 1, active - 1),
        (0, 0),
    )


def point(width: int, valid: list[float], active: int, after: list[float] | None = None) -> WidthPoint:
    def make(values: list[float]) -> tuple[Training, ...]:
        return tuple(trained(width, s, v + 0.01, v, active + s - 1) for s, v in enumerate(values, 1))

    return WidthPoint(width, make(valid), make(after or []))


NARROW = point(4, [0.80, 0.81, 0.82], 4)
MIDDLE = point(16, [0.895, 0.90, 0.905], 9, [0.894, 0.90, 0.905])
WIDE = point(64, [0.9, 0.902, 0.901], 20, [0.85, 0.86, 0.85])


def test_mean_over_seeds() -> None:
    found = MIDDLE.mean("valid")
    assert float(found.value) == pytest.approx(0.9)
    assert float(found.error) == pytest.approx(0.005 / np.sqrt(3))
    alone = WidthPoint(4, NARROW.before[:1], ())
    assert float(alone.mean("train").error) == 0.004
    assert np.isnan(NARROW.mean("valid", after=True).value)
    assert MIDDLE.shrunk == (11, 10)


def test_the_narrowest_that_is_as_good_is_recommended() -> None:
    study = WidthStudy((NARROW, MIDDLE, WIDE))
    assert study.chosen is MIDDLE
    assert study.widths == (11, 10)
    reasons = " ".join(study.reasons())
    assert "Width 16 is the narrowest of 4, 16, 64" in reasons
    assert "11 of 16, 10 of 16" in reasons
    assert "no loss beyond the errors" in reasons
    assert "a wider one may be better" not in reasons


def test_a_width_that_succeeds_by_luck_is_not_recommended() -> None:
    lucky = point(2, [0.80, 0.86, 0.92, 0.91], 2)
    assert float(lucky.mean("valid").value + 1.1 * lucky.mean("valid").error) > 0.9
    assert WidthStudy((lucky, MIDDLE, WIDE)).chosen is MIDDLE


def test_what_events_cannot_tell_apart_is_as_good() -> None:
    narrow = point(8, [0.8975, 0.8985, 0.898], 4)  # 0.002 below the best; one training is known to 0.004
    assert narrow.statistical("valid") == pytest.approx(0.004)
    assert WidthStudy((narrow, MIDDLE, WIDE)).chosen is narrow


def test_shrinking_that_costs_is_not_recommended() -> None:
    study = WidthStudy((NARROW, WIDE))
    assert study.widths == (64, 64)
    reasons = " ".join(study.reasons())
    assert "Width 64 of 4, 64 has the best validation accuracy" in reasons
    assert "a loss, so they are kept" in reasons
    assert "a wider one may be better" in reasons
