"""The report: self-contained, escaped, and every number where it should be."""

from __future__ import annotations

import io
import json
import re
from html import escape
from urllib.parse import unquote
from xml.etree import ElementTree

import numpy as np
import pytest
import uproot
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from hepxai.attribution.means import focus_means, pair_means
from hepxai.attribution.reductions import reduced, relative_to_uniform
from hepxai.attribution.residuals import residual_checks
from hepxai.core.files import write_json
from hepxai.metrics import classification_metrics
from hepxai.report import write_report
from hepxai.report.diagnostics import residuals_section
from hepxai.report.displays import chosen_events
from hepxai.report.inputs import training_section
from hepxai.report.performance import roc_section
from hepxai.report.summary import summary
from hepxai.report.write import sections, svg_address

FIGURE = r"src='data:image/svg\+xml,([^']*)'"
NOTHING = {
    "explained": {},
    "cutflow": [],
    "history": [],
    "metrics": {},
    "cards": {},
}


@pytest.fixture(scope="module")
def written(finished_view, tmp_path_factory):
    view = finished_view(600)
    kept = {k: view.explained[k] for k in ("attention", "node_ig", "surrogate_edge_ig")}
    view = finished_view(600, explained=kept, cards={"model.yaml": "url: https://example.org/card\n"})
    page = write_report(view.run, tmp_path_factory.mktemp("run"))
    return view, page


def said(view):
    return " ".join(s for point in summary(view) for s in point.sentences)


def only(changed, view, method):
    return changed(view, explained={method: view.explained[method]})


def by_key(view):
    return {section.key: section for section in sections(view)}


def test_page_needs_no_other_file_and_no_network(written):
    html = re.sub(FIGURE, "src='data:'", written[1].read_text())
    addresses = re.findall(r"""(?:src|href|action|data|poster|srcset)\s*=\s*["']([^"']*)""", html)
    assert addresses
    assert all(a == "data:" or a.startswith("#") for a in addresses)
    assert not re.search(r"@import|<link|<iframe|<script [^>]*src", html)
    assert set(re.findall(r"url\(([^)]*)\)", html)) == {"#frame", "#h${v[0]}_${v[1]}"}  # of the script
    outside = html.replace("https://example.org/card", "")  # text of a card, not an address
    outside = outside.replace("http://www.w3.org/2000/svg", "")  # a name of the script, not an address
    assert "://" not in outside
    anchors = [a[1:] for a in addresses if a.startswith("#")]
    assert all(f'id="{a}"' in html for a in anchors)


def test_embedded_figures_need_nothing_either(written):
    found = re.findall(FIGURE, written[1].read_text())
    assert len(found) >= 12
    for svg in map(unquote, found):
        names = re.findall(r' id="([^"]+)"', svg)
        assert set(re.findall(r"""(?:url\(|href=")#([^)"]+)""", svg)) == set(names)
        ElementTree.fromstring(svg)
        assert not re.search(r"""href\s*=\s*["'](?!#|data:)""", svg)
        assert "<script" not in svg
        assert "@import" not in svg


def test_an_embedded_figure_is_small_and_whole():
    figure, svg = Figure(), io.BytesIO()
    figure.subplots(2, 2)[0, 0].errorbar(range(5), range(5), range(5), label="it's 50 % & #1")
    FigureCanvasSVG(figure).print_svg(svg)
    address = svg_address(svg.getvalue().decode())
    assert len(address) < 0.6 * len(svg.getvalue()) * 4 / 3  # as base64
    before, after = (ElementTree.fromstring(s) for s in (svg.getvalue(), unquote(address.partition(",")[2])))
    for tag in ("path", "use", "g"):
        name = f"{{http://www.w3.org/2000/svg}}{tag}"
        assert len(after.findall(f".//{name}")) == len(before.findall(f".//{name}"))


def test_every_figure_has_its_files_and_a_caption_with_events_and_errors(written):
    page = written[1]
    html = page.read_text()
    captions = re.findall(r"<figcaption><b>Figure (\d+).</b> (.*?) <em>figures/(\w+)</em></figcaption>", html)
    assert [int(number) for number, _, _ in captions] == list(range(1, len(captions) + 1))
    assert html.count("<img") == len(captions) >= 12
    assert len({name for _, _, name in captions}) == len(captions)
    for _, text, name in captions:
        assert len(text) > 60
        for ending in ("png", "pdf"):
            assert (page.parent / "figures" / f"{name}.{ending}").stat().st_size > 1000
    assert re.search(r"\d+ events \(\d+\.\d % with negative weight\) of the test sample", html)


def test_numbers_agree_with_the_content(written):
    view, page = written
    numbers = json.loads((page.parent / "numbers.json").read_text())
    html = page.read_text().replace("&#39;", "'")
    assert all(s in html for sentences in numbers["summary"].values() for s in sentences)
    found = numbers["sections"]
    assert found["roc"]["metrics"]["test"]["auc"] == view.metrics["test"]["auc"]
    plain = reduced(relative_to_uniform(view.explained["attention"]))
    assert found["attention"]["unit"] == "attention × (n − 1)"
    assert found["attention"]["focus"]["means"] == focus_means(plain, view.focus).rows()
    shown = {(r["class"], r["receiver"], r["sender"]): r for r in found["attention"]["type_pairs"]}
    means = pair_means(plain)
    value, error = means.at(**{"class": "signal", "receiver": "muon", "sender": "jet"})
    assert (shown["signal", "muon", "jet"]["value"], shown["signal", "muon", "jet"]["error"]) == (
        value,
        error,
    )
    assert shown["signal", "met", "met"]["value"] is None
    raw = focus_means(reduced(view.explained["attention"]), view.focus)
    assert found["attention"]["focus"]["attention"] == raw.rows()
    assert found["fidelity"]["test"]["agreement"] == view.fidelity["test"]["agreement"]
    assert {d["role"] for d in found["attention"]["displays"]} == {"typical", "best", "worst"}


def test_histograms_hold_the_signed_sums(written):
    view, page = written
    events = view.events
    with uproot.open(page.parent / "histograms.root") as opened:
        for c, name in enumerate(events.schema.classes):
            own = (events.label == c) & (events.split == 2)
            found = opened[f"scores/{name}_test"]
            np.testing.assert_allclose(found.values(flow=True).sum(), events.weight[own].sum())
            np.testing.assert_allclose(found.variances().sum(), np.sum(events.weight[own] ** 2))
            explained = view.explained["attention"]
            muons = explained.select(pair=("muon", "muon"))
            per_event = np.diff(muons.offsets) * (explained.events.label == c)
            total = opened[f"attention/focus_{name}"].values().sum()
            np.testing.assert_allclose(total, np.sum(per_event * explained.events.weight))
        matrix = opened["attention/pairs_signal"]
        assert matrix.classname == "TH2D"
        assert matrix.axis(0).labels() == list(events.schema.types)
        means = pair_means(reduced(relative_to_uniform(view.explained["attention"])))
        np.testing.assert_allclose(matrix.values(), np.nan_to_num(means.value[1]))
        np.testing.assert_allclose(np.sqrt(matrix.variances()), np.nan_to_num(means.error[1]))


def test_warning_is_at_the_top_and_beside_its_products(written):
    view, page = written
    html = page.read_text()
    (warning,) = view.warnings
    assert html.index(warning) < html.index("<nav")
    assert html.count(warning) == 3  # top, the surrogate's map, fidelity
    part = html[html.index('id="surrogate_edge_ig"') :]
    assert part.index(warning) < part.index("<img")
    assert warning not in html[html.index('id="attention"') : html.index('id="node_ig"')]


def test_warnings_stand_at_the_top_and_beside_their_method(finished_view):
    explained = finished_view(30).explained
    explained["edge_ig"] = explained["edge_ig"].replace(concerns=("residual 2 %", "and more"))
    view = finished_view(30, explained=explained, notes=("12 sentinels",), metrics={})
    concerns = ("edge_ig: residual 2 %.", "edge_ig: and more.")
    assert view.warnings_about("edge_ig") == concerns
    assert view.warnings_about("node_ig") == ()
    poor = view.warnings_about("surrogate_edge_ig")
    assert view.warnings == ("12 sentinels", *concerns, *poor)


def test_summary_is_built_from_numbers(written):
    view, page = written
    stored = json.loads((page.parent / "numbers.json").read_text())
    text = {about: " ".join(sentences) for about, sentences in stored["summary"].items()}
    assert list(text) == ["Trained", "How well", "Muon–muon pairs", "To trust", "To doubt"]
    assert re.search(r"Signal against background on \d+ train, \d+ valid, \d+ test events", text["Trained"])
    assert re.match(r"Test split \(\d+ events\): AUC 0\.\d+ ± 0\.\d+", text["How well"])
    train, test = (view.metrics[s]["auc"] for s in ("train", "test"))
    away = (train["value"] - test["value"]) / np.hypot(train["error"], test["error"])
    side = "above" if away > 0 else "below"
    assert f"{abs(away):.1f} standard errors {side} the test split" in text["How well"]
    assert re.search(
        r"Attention: \d\.\d+ ± 0\.\d+ \(signal\).*; 1 is equal attention", text["Muon–muon pairs"]
    )
    assert f"The {len(stored['warnings'])} warnings below." in text["To doubt"]


def test_verdicts_are_in_the_file_and_either_to_trust_or_warnings(written):
    view, page = written
    stored = json.loads((page.parent / "numbers.json").read_text())
    about = {v["about"]: v for v in stored["verdicts"]}
    assert {"agreement", "surrogate", "truth", "events"} <= about.keys()
    texts = {v["about"]: f"{v['sentence']} (rule: {v['rule']})." for v in stored["verdicts"]}
    html = page.read_text()
    for name, verdict in about.items():
        assert (texts[name] in stored["summary"].get("To trust", ())) == verdict["good"]
        assert (texts[name] in stored["warnings"]) == (not verdict["good"])
        assert html.count(escape(texts[name])) == 1
    assert about["surrogate"]["good"]
    assert stored["warnings"][: len(view.warnings)] == list(view.warnings)
    equal = [r for r in stored["sections"]["truth"] if r["within_types"]["value"] is not None]
    assert about["truth"]["number"] in [r["within_types"]["value"] - r["null"]["value"] for r in equal]


@pytest.mark.usefixtures("undrawn")
def test_empty_run_says_what_to_do(finished_view, tmp_path):
    view = finished_view(60, **NOTHING, provenance={}, observer=None)
    html = write_report(view.run, tmp_path).read_text()
    for text in (
        "hepxai explain",
        "no cut flow",
        "no training history",
        "The run holds no result",
    ):
        assert text in html
    assert "Fidelity of the surrogate" not in html  # nor a link to it
    assert 'href="#fidelity"' not in html
    assert json.loads((tmp_path / "numbers.json").read_text())["observer"] is None


def test_same_numbers_give_the_same_files(finished_view, tmp_path):
    view = finished_view(60, **NOTHING)
    pages = [write_report(view.run, tmp_path / n) for n in "ab"]
    assert pages[0].read_bytes() == pages[1].read_bytes()
    first, second = ((p.parent / "figures" / "scores.pdf").read_bytes() for p in pages)
    assert first == second
    assert not list(tmp_path.rglob("*.part"))


def test_names_are_escaped_everywhere(finished_view, tmp_path):
    bad = "<script>alert('x')</script>$\\frac{$"
    row = {"sample": bad, "step": bad, "entries": 1, "weight": 1.0, "error": 1.0}
    view = finished_view(60)
    schema = view.events.schema.__class__(
        **vars(view.events.schema)
        | {"classes": ("background", bad), "types": (*view.events.schema.types[:4], bad)}
    )
    events = view.events.replace(schema=schema)
    attention = view.explained["attention"]
    attention = attention.replace(events=attention.events.replace(schema=schema))
    view = finished_view(
        60,
        events=events,
        name=bad,
        cutflow=[row],
        cards={bad: bad},
        provenance={bad: {bad: [bad]}},
        notes=[bad],
        explained={"attention": attention},
        focus=("muon", bad),
    )
    html = write_report(view.run, tmp_path).read_text()
    assert re.findall("<script[^>]*>", html) == ['<script type="application/json">', "<script>"]
    assert "<script>alert" not in html
    assert "&lt;script&gt;" in html
    with uproot.open(tmp_path / "histograms.root") as opened:
        assert any(k.startswith("scores/_script_") for k in opened.keys())  # noqa: SIM118


@pytest.mark.filterwarnings("ignore:.*outside its range")  # weights of both signs
def test_one_class_only(finished_view, make_population, changed):
    events = make_population(80)
    events = events.replace(label=np.ones(80, dtype=np.int64))
    view = only(changed, finished_view(80, events=events, metrics={}), "attention")
    found = by_key(view)
    assert "both classes" in found["roc"].text[0]
    assert "(background)" not in said(view)
    assert all(d["class"] == "signal" for d in found["attention"].numbers["displays"])


@pytest.mark.filterwarnings("ignore:.*outside its range")  # weights of both signs
def test_weights_that_sum_to_nothing(finished_view, make_population, changed):
    events = make_population(80)
    events = events.replace(weight=np.where(np.arange(80) % 2, 1.0, -1.0))
    view = finished_view(80, events=events, metrics={})
    assert by_key(only(changed, view, "edge_ig"))["scores"].figures


@pytest.mark.filterwarnings("ignore:.*outside its range")  # weights of both signs
def test_events_with_no_or_one_particle(finished_view, toy):
    events = toy(40, smallest=0, largest=1)
    found = by_key(finished_view(40, events=events, metrics={}, focus=("muon", "jet")))
    assert "No explained event has muon–jet pairs." in found["edge_ig"].text
    assert "nothing to display" in found["edge_ig"].text[-1]
    assert "displays" not in found["edge_ig"].numbers


def test_no_event_was_explained(finished_view):
    view = finished_view(60)
    none = {k: a[np.zeros(len(a.events), dtype=bool)] for k, a in view.explained.items()}
    found = by_key(finished_view(60, explained=none))
    assert "promises completeness" in found["residuals"].text[0]


def test_heads_and_layers_are_named(finished_view):
    view = finished_view(100)
    one = view.explained["attention"]
    two = one.replace(
        values=np.concatenate([one.values, one.values], axis=1),
        labels=dict(one.labels) | {"layer": ("first", "second")},
    )
    found = by_key(finished_view(100, explained={"attention": two}))
    assert {"attention_first", "attention_second"} <= set(found)
    assert found["attention_first"].title == "Attention, first"
    assert [r["head"] for r in found["attention_first"].numbers["heads"][::4]] == [
        f"head {h}" for h in (1, 2, 3, 4)
    ]


# --- refusals --------------------------------------------------------------------------------


def test_scores_must_be_finite(finished_view):
    for bad in (np.nan, np.inf):
        scores = np.zeros(30)
        scores[3] = bad
        with pytest.raises(ValueError, match="1 of 30 scores are NaN or infinite"):
            finished_view(30, scores=scores)


# --- choices and numbers ---------------------------------------------------------------------


def test_scores_are_found_by_file_and_entry(finished_view):
    view = finished_view(50)
    order = np.random.default_rng(0).permutation(50)[:20]
    np.testing.assert_array_equal(view.scores_of(view.events[order]), view.scores[order])


def test_typical_best_and_worst(make_population):
    events = make_population(200)
    scores = np.random.default_rng(1).normal(size=200)
    chosen = chosen_events(events, scores)
    signal, background = events.label == 1, events.label == 0
    assert scores[chosen["signal", "best"]] == scores[signal].max()
    assert scores[chosen["signal", "worst"]] == scores[signal].min()
    assert scores[chosen["background", "best"]] == scores[background].min()
    assert scores[chosen["background", "worst"]] == scores[background].max()
    assert abs(scores[chosen["signal", "typical"]] - np.median(scores[signal])) < 0.05


# --- numbers that are not there --------------------------------------------------------------


def test_the_headline_residual_is_the_stored_one(finished_view):
    view = finished_view(200)
    found = view.explained["edge_ig"]
    n = len(found.events)
    residual, output_change = np.full(n, 0.1), np.ones(n)
    residual[:9], output_change[: n // 2 + 9] = 0.0, 0.0  # 9 undefined, about half infinite
    found = found.replace(residual=residual, output_change=output_change)
    view = finished_view(200, explained={"edge_ig": found})
    section = residuals_section(view)
    numbers, checks = section.numbers["edge_ig"], residual_checks(found)
    assert (numbers["median"], numbers["quantile_90"]) == (
        checks["median_residual"],
        checks["p90_residual"],
    )
    assert (numbers["undefined"], numbers["infinite"]) == (9, n // 2)
    assert section.tables[0].header[-2:] == ("infinite", "undefined")
    assert section.tables[0].rows[0][1:] == (
        [f"{n}", "10 %" if np.isfinite(checks["median_residual"]) else "∞ %", "∞ %", f"{n // 2}", "9"]
    )
    mild = found.replace(output_change=np.ones(n))
    assert "edge IG 10 %" in said(finished_view(200, explained={"edge_ig": mild}))


def test_no_event_with_a_defined_residual(finished_view):
    found = finished_view(60).explained["edge_ig"]
    none = np.zeros(len(found.events))
    view = finished_view(60, explained={"edge_ig": found.replace(residual=none, output_change=none)})
    assert residuals_section(view).tables[0].rows[0][2:4] == ["–", "–"]
    assert "Completeness" not in said(view)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("stored", [False, True])
def test_a_separable_score_makes_a_report(finished_view, make_population, tmp_path, stored, changed):
    events = make_population(200)
    events = events.replace(weight=np.ones(200))
    scores = np.where(events.label == 1, 5.0, -5.0)
    metrics = {
        s: {k: {"value": float(v.value), "error": float(v.error)} for k, v in row.items()}
        for s, row in classification_metrics(scores, events).items()
    }
    assert metrics["test"]["rejection@0.5"] == {"value": np.inf, "error": np.inf}
    if stored:
        write_json(tmp_path / "metrics.json", metrics)
        metrics = json.loads((tmp_path / "metrics.json").read_text())
        assert metrics["test"]["rejection@0.5"] == {"value": None, "error": None}
    view = finished_view(200, **NOTHING | {"metrics": metrics}, events=events)
    view = changed(view, scores=scores)
    write_report(view.run, tmp_path)
    table = roc_section(view).tables[0]
    (row,) = (r for r in table.rows if "at 50 %" in r[0])
    assert set(row[1:]) == {"–" if stored else "∞"}
    assert "no positive weight" in table.caption
    assert "rejection" not in said(view)
    numbers = json.loads((tmp_path / "numbers.json").read_text())
    assert numbers["sections"]["roc"]["metrics"]["test"]["rejection@0.5"]["value"] is None


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, np.nan, np.inf])
def test_missing_figures_everywhere(finished_view, tmp_path, value):
    missing = {"value": value, "error": value}
    history = [{"epoch": 0, "valid_loss": value, "valid_auc": 0.5}, {"epoch": 1, "valid_loss": 0.3}]
    changes = {
        "metrics": {"test": {"auc": missing, "accuracy": {"value": 0.9, "error": value}}},
        "history": history,
    }
    view = finished_view(60, **NOTHING | changes)
    html = write_report(view.run, tmp_path).read_text()
    shown = "∞" if value == np.inf else "–"
    assert f"AUC {shown}, accuracy with all weights 0.9." in said(view)
    assert "decides like" not in said(view)
    assert training_section(view).tables[0].rows == [["0", shown, "0.5"], ["1", "0.3", "–"]]
    text = re.sub(r'src="[^"]*"|<script>.*</script>', "", html, flags=re.DOTALL)
    assert "nan" not in text.lower().replace("provenance", "")
