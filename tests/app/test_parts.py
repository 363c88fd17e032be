"""Parts of the page without a browser: forms, links, cache, selections, numbers of two maps."""

from __future__ import annotations

import csv
import dataclasses
import io
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from app_files import run_folder, sample
from numpy.typing import NDArray
from scipy.stats import spearmanr
from toy_events import make_events

from hepxai.app import work
from hepxai.app.cache import Cache, size_of
from hepxai.app.figures import as_csv
from hepxai.app.folders import runs_in
from hepxai.app.limits import RefusedError
from hepxai.app.link import decode, encode
from hepxai.app.settings import Entry, entries
from hepxai.app.sources import EventFiles, RunSource
from hepxai.app.widgets import key_of, message
from hepxai.attribution import Attribution, Pairs
from hepxai.datasets.columns import ExpressionError
from hepxai.datasets.event_numbers import EventNumbers, select_events
from hepxai.explainers import EXPLAINERS
from hepxai.metrics.event_maps import agreement, difference, per_particle, ranking, rows_of

# --- forms -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", EXPLAINERS)
def test_form_of_every_method(method: str) -> None:
    """Defaults are those of the method, every choice is accepted, and no field is a file."""
    fields = {e.name: e for e in entries(method, ("layer_1",))}
    assert not {"folder", "trained", "rows", "progress", "card"} & fields.keys()
    for name, entry in fields.items():
        assert entry.default == EXPLAINERS[method].model_fields[name].default
        for option in entry.options:
            EXPLAINERS[method](**{name: option})
        if entry.is_slider and entry.kind == "whole":
            EXPLAINERS[method](**{name: int(entry.low or 0)})
        if entry.kind == "text" and isinstance(entry.default, tuple):
            EXPLAINERS[method](**{name: entry.parse("2, 3")})


def test_documentation_of_settings() -> None:
    about = {e.name: e.about for e in entries("edge_ig", ("a",))}
    assert about["steps"].startswith("Gauss-Legendre nodes")  # of the class that it extends
    assert all(not text.startswith("See ") for text in about.values())


@pytest.mark.parametrize(
    ("text", "value"),
    [("3, 4", (3, 4)), ("0.5", 0.5), ("blurred", "blurred"), ("", None), ("[1, 2]", (1, 2))],
)
def test_text_of_a_setting(text: str, value: Any) -> None:
    assert Entry("x", "text", None, optional=True).parse(text) == value


# --- links -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "limits"),
    [
        ("edge_ig", {"valid": ("edge_ig", "attention")}),
        (None, {"valid": (None, "a")}),
        (7, {"kind": "whole", "low": 1, "high": 9}),
        (0.25, {"kind": "number"}),
        (True, {"kind": "switch"}),
        (["a", "b"], {"kind": "several", "valid": ("a", "b", "c")}),
        ("met > 50", {}),
    ],
)
def test_values_survive_a_link(value: Any, limits: dict[str, Any]) -> None:
    assert decode(encode(value), "default", **limits) == value


@pytest.mark.parametrize(
    ("text", "limits", "value"),
    [
        ("<script>", {"valid": ("a",)}, "default"),
        ("nonsense", {"kind": "whole", "low": 1}, "default"),
        ("1e999", {"kind": "number"}, "default"),
        ("NaN", {"kind": "number"}, "default"),
        ("true", {"kind": "whole"}, "default"),
        ("500", {"kind": "whole", "low": 1, "high": 9}, 9),
        ('["a", "x"]', {"kind": "several", "valid": ("a",)}, ["a"]),
        ("[" * 3000, {"kind": "several", "valid": ("a",)}, "default"),
        ("1", {"kind": "switch"}, "default"),
    ],
)
def test_links_may_hold_anything(text: str, limits: dict[str, Any], value: Any) -> None:
    assert decode(text, "default", **limits) == value


# --- cache -----------------------------------------------------------------------------------------------


def test_cache_forgets_the_oldest() -> None:
    cache = Cache(limit=3000)
    for name in "abc":
        cache.put(name, np.zeros(125))
    assert cache.get("a") is not None
    cache.put("d", np.zeros(125))
    assert [cache.get(n) is not None for n in "abcd"] == [True, False, True, True]
    cache.put("large", np.zeros(10_000))
    assert cache.get("large") is not None
    assert cache.get("a") is None


def test_size_counts_arrays_inside() -> None:
    assert size_of(make_events(20)) > make_events(20).particles.nbytes


# --- selections --------------------------------------------------------------------------------------------


def numbers() -> tuple[EventNumbers, int]:
    events = sample()
    return EventNumbers(events, np.arange(len(events), dtype=float)[:, None], ("signal",)), len(events)


def test_selection() -> None:
    every, size = numbers()
    mask = select_events(every, "met > 40 and muon == 2 and not score < 10", size)
    met = sample().observers["met"]
    np.testing.assert_array_equal(mask, (met > 40) & (np.arange(size) >= 10))
    assert select_events(every, " ", size).all()


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("mett > 3", r"no branch or variable 'mett'.*did you mean 'met'"),
        ("met", "is no condition; write for example.*the events have .*met"),
        ("met > 'a'", "write the number without quotes; the events have .*met"),
        ("__import__('os').system('true')", "is not allowed"),
        ("met > ", "syntax not understood"),
        ("().__class__", "is not allowed"),
    ],
)
def test_wrong_selections(text: str, sentence: str) -> None:
    every, size = numbers()
    with pytest.raises(ExpressionError, match=sentence):
        select_events(every, text, size)


# --- numbers of maps ------------------------------------------------------------------------------------


def pair_map(values: NDArray[np.float64] | None = None, *, seed: int = 0) -> Attribution:
    events = make_events(6, smallest=3)
    src, dst, offsets = events.pairs()
    drawn = np.random.default_rng(seed).normal(size=len(src)) if values is None else values
    return Attribution(drawn, ("pair",), events, f"method_{seed}", "signal", pairs=Pairs(src, dst, offsets))


def particle_map(seed: int = 3) -> Attribution:
    events = make_events(6, smallest=3)
    values = np.random.default_rng(seed).normal(size=(events.n_particles, 5))
    return Attribution(values, ("particle", "feature"), events, "particles", "signal")


def test_agreement_is_spearmans() -> None:
    first, second, particles = pair_map(), pair_map(seed=1), particle_map()
    ends = first.offsets
    values, what = agreement(first, second)
    expected = [spearmanr(abs(first.values[a:b]), abs(second.values[a:b]))[0] for a, b in pairwise(ends)]
    np.testing.assert_allclose(values, expected)
    assert what == "pairs"
    values, what = agreement(first, particles)
    totals, ends = per_particle(first), first.events.offsets
    sums = abs(particles.values.sum(axis=1))
    expected = [spearmanr(totals[a:b], sums[a:b])[0] for a, b in pairwise(ends)]
    np.testing.assert_allclose(values, expected)
    assert what == "particles"


def test_sums_at_a_particle() -> None:
    """Slow reference: every pair counts at both ends."""
    one = pair_map()
    assert one.pairs is not None
    total = np.zeros(one.events.n_particles)
    for value, a, b in zip(one.values, one.pairs.src, one.pairs.dst, strict=True):
        total[a] += abs(value)
        total[b] += abs(value)
    np.testing.assert_allclose(per_particle(one), total)


def test_difference() -> None:
    one, other = pair_map(), pair_map(seed=1)
    change = difference(one, other)
    assert change is not None
    first = slice(*one.offsets[:2])
    shares = [m.values[first] / abs(m.values[first]).sum() for m in (one, other)]
    np.testing.assert_allclose(change.values[first], shares[0] - shares[1])
    np.testing.assert_allclose(difference(one, pair_map(3 * one.values)).values, 0, atol=1e-15)  # type: ignore[union-attr]
    assert difference(one, particle_map()) is None
    change.plot(0)


def test_ranking_in_words() -> None:
    one = pair_map()[np.array([2])]
    rows = ranking(one)
    sizes = [abs(r["value"]) for r in rows]
    assert sizes == sorted(sizes, reverse=True) == sorted(abs(one.values), reverse=True)
    first, strongest = one.events.labels_of_particles(), int(np.argmax(abs(one.values)))
    assert one.pairs is not None
    ends = (first[one.pairs.src[strongest]], first[one.pairs.dst[strongest]])
    assert rows[0]["pair"] == " → ".join(ends)
    assert [r["particle"].split()[0] for r in ranking(particle_map()[np.array([2])])]


def test_rows_name_particles() -> None:
    one = pair_map()[np.array([2])]
    rows = rows_of(one)
    assert len(rows) == len(one.values)
    assert set(rows[0]) == {"sender", "receiver", "value"}
    assert {r["sender"] for r in rows} == set(one.events.labels_of_particles())


@pytest.mark.parametrize("column", ["weight", "split", "observers", "files", "schema"])
def test_the_key_of_a_result_holds_all_that_is_shown_of_its_events(column: str) -> None:
    events = make_events(8)
    changed: dict[str, Any] = {
        "weight": 2 * events.weight,
        "split": (events.split + 1) % 3,
        "observers": {"mass": np.arange(8.0)},
        "files": tuple(f"other_{name}" for name in events.files),
        "schema": dataclasses.replace(
            events.schema, classes=tuple(f"other_{c}" for c in events.schema.classes)
        ),
    }
    assert key_of("a", events) == key_of("a", make_events(8))
    assert key_of("a", events) != key_of("a", events.replace(**{column: changed[column]}))


def test_an_edited_card_is_another_source(tmp_path: Path) -> None:
    card, stamps = tmp_path / "card.yaml", set()
    for text in ("name: one", "name: two"):
        card.write_text(text)
        stamps.add(EventFiles("card", (card,)).stamp())
    assert len(stamps) == 2


def test_headers_of_csv_have_no_formulas() -> None:
    assert as_csv([{"=1+1": 1, " -x": 2}]).splitlines()[0] == "'=1+1,' -x"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/srv/session-1/2/a.root:Events is damaged", "a\\.root\\:Events is damaged"),
        ("read '/home/me/x.npz'; see docs/app.md", "read \\'x\\.npz\\'\\; see docs\\/app\\.md"),
        ("1 / 2 and https://a.b/c/d", "1 \\/ 2 and https\\:\\/\\/a\\.b\\/c\\/d"),
    ],
)
def test_messages_have_no_folders(text: str, expected: str) -> None:
    assert message(text) == expected


def test_csv_has_no_formulas() -> None:
    rows = [{"name": "=HYPERLINK()", "value": -1.5}, {"name": 'a "b", c', "value": 2.0, "more": 1}]
    table = list(csv.DictReader(io.StringIO(as_csv(rows))))
    assert [r["name"] for r in table] == ["'=HYPERLINK()", 'a "b", c']
    assert table[0]["value"] == "-1.5"


# --- folders ----------------------------------------------------------------------------------------------


def test_runs_in_a_folder(tmp_path: Any) -> None:
    folder = run_folder("table")
    assert runs_in(folder) == {"table": folder}
    assert runs_in(folder.parent)["table"] == folder
    with pytest.raises(RefusedError, match="holds no run and no scan; make one with `hepxai run`"):
        runs_in(tmp_path)


def test_of_too_many_events_some_are_taken_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(work, "EVENTS", 7)
    study, names = work.open_study(RunSource(run_folder("table"))), {}
    exec("\n".join(study.lines()), names)
    assert len(study.events) == 7 < study.total
    assert names["events"].fingerprint(values=True) == study.events.fingerprint(values=True)
    everything = RunSource(run_folder("table")).open()[1]
    assert study.events.entry[[0, -1]].tolist() == everything.entry[[0, -1]].tolist()
