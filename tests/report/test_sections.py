"""Sections: class names of the card, baselines, cut flow, displays, provenance."""

from __future__ import annotations

import dataclasses
import re

import numpy as np
import pytest
import uproot
from matplotlib.patches import ArrowStyle, FancyArrowPatch
from matplotlib.text import Text

from hepxai.attribution import Attribution
from hepxai.attribution.means import pair_means
from hepxai.attribution.reductions import at_edges, pt_rank, reduced
from hepxai.core.formatting import measured
from hepxai.metrics.isolation import isolation, pair_mean
from hepxai.report import RunView
from hepxai.report.attributions import overview_section, particle_section
from hepxai.report.baseline import closure_part
from hepxai.report.displays import display_figure, telling_truth
from hepxai.report.inputs import cutflow_section, efficiency, provenance_section, training_section
from hepxai.report.layer_attributions import maps
from hepxai.report.summary import summary
from hepxai.report.write import _write_histograms, sections

# --- names of the card -----------------------------------------------------------------------


def map_of(view, method):
    return next(found for found in maps(view) if found.method == method)


def particles(view, method="node_ig"):
    return particle_section(view, map_of(view, method))


def renamed(changed, view, classes):
    """The same view with other names for the classes."""
    schema = dataclasses.replace(view.events.schema, classes=classes)
    explained = {
        k: a.replace(events=a.events.replace(schema=schema), target=classes[1])
        for k, a in view.explained.items()
    }
    return changed(view, events=view.events.replace(schema=schema), explained=explained)


def words(view):
    """Everything that a page says, on figures and beside them, with the section that says it."""
    for point in summary(view):
        yield "summary", (point.about, *point.sentences)
    for section in sections(view):
        yield section.key, (section.title, *section.text)
        for table in section.tables:
            yield section.key, (table.caption, *table.header, *(c for row in table.rows for c in row))
        for drawn in section.figures:
            texts = (t.get_text() for t in drawn.figure.findobj(Text))
            yield drawn.name, (drawn.caption, *texts)


def test_classes_are_named_as_on_the_card(finished_view, make_population, changed):
    events = make_population(120)
    events = events.replace(files=("a.root:Events", "b.root:Events"))
    view = finished_view(120, events=events, cutflow=[], provenance={})
    kept = {k: view.explained[k] for k in ("attention", "edge_ig", "node_ig")}
    view = renamed(changed, changed(view, explained=kept), ("ttZ", "charged"))
    found = list(words(view))
    wrong = [(w, t) for w, texts in found for t in texts if re.search(r"\b(signal|background)\b", t, re.I)]
    assert not wrong
    everything = {t for _, texts in found for t in texts}
    assert {"charged efficiency", "ttZ rejection (1 / efficiency)", "logit of charged"} <= everything
    assert "ttZ rejection at 50 % charged efficiency" in everything


# --- where an attribution starts -------------------------------------------------------------


@pytest.mark.parametrize("method", ["edge_ig", "node_ig"])
def test_baseline_and_attributions_add_up_to_the_score(finished_view, method):
    view = finished_view(200)
    found, numbers = view.explained[method], closure_part(view, map_of(view, method)).numbers
    scores, events = view.scores_of(found.events), found.events
    per_event = {"edge_ig": found, "node_ig": reduced(found)}[method].sum(found.axes[0]).values
    for code, name in enumerate(events.schema.classes):
        own = numbers[name]
        parts = [own[p]["value"] for p in ("baseline", "attributions", "residual", "logit")]
        assert parts[0] + parts[1] - parts[2] == pytest.approx(parts[3])
        weight = np.where(events.label == code, events.weight, 0.0)
        assert parts[3] == pytest.approx(np.average(scores, weights=weight))
        assert parts[1] == pytest.approx(np.average(per_event, weights=weight))
        assert own["attributions"]["error"] > 0
    change = numbers["signal − background"]["logit"]
    assert change["value"] == pytest.approx(
        numbers["signal"]["logit"]["value"] - numbers["background"]["logit"]["value"]
    )


def test_the_summary_says_how_much_of_the_difference_the_edges_carry(finished_view):
    view = finished_view(200)
    numbers = closure_part(view, map_of(view, "edge_ig")).numbers["signal − background"]
    part, whole = (measured(**_measurement(numbers[p])) for p in ("attributions", "logit"))
    wanted = (
        f"All messages of transformer 1 together carry {part} of the {whole} between the mean logits of "
        "signal and background."
    )
    assert [s for p in summary(view) for s in p.sentences].count(wanted) == 1


def _measurement(entry):
    return {k: float(entry[k]) for k in ("value", "error")}


def test_pairs_without_direction_count_once_and_are_worded_so(finished_view, changed):
    """The headline is the whole interaction of the two; nothing speaks of messages."""
    view = finished_view(120)
    edge_ig = view.explained["edge_ig"]
    values = edge_ig.values + at_edges(edge_ig, edge_ig.pairs.dst, edge_ig.pairs.src)  # symmetric
    settings = {"baseline": "the event with no particle", "directed": False}
    halves = edge_ig.replace(values=values / 2, method="shapley_interaction", settings=settings)
    view = changed(view, explained={"shapley_interaction": halves})
    signal = halves[halves.events.label == 1]
    muons = signal.select(pair=view.focus)
    mean = muons.population()
    whole = measured(2 * float(mean.value), 2 * float(mean.error))
    (line,) = (s for p in summary(view) for s in p.sentences if "one such pair adds" in s)
    assert f"{whole} (signal)" in line
    assert pair_mean(signal, view.focus).value == pytest.approx(2 * float(mean.value))
    text = " ".join(t for key, ts in words(view) if key.startswith("shapley") for t in ts)
    assert "interaction of the pair for signal [logit]" in text
    assert not re.search(r"\b(sender|receiver|message|arrow|ordered)", text, re.IGNORECASE)
    (display,) = display_figure(view, map_of(view, "shapley_interaction")).figure.axes[:1]
    arrows = [p for p in display.patches if isinstance(p, FancyArrowPatch)]
    assert arrows
    assert all(isinstance(p.get_arrowstyle(), ArrowStyle.Curve) for p in arrows)


@pytest.mark.slow
def test_events_of_one_particle_type(finished_view, make_population, changed):
    """All pairs are in focus: nothing to compare them with, and groups by place in pT."""
    events = make_population(80)
    schema = dataclasses.replace(events.schema, types=("jet",), collections=("Jet",))
    events = events.replace(schema=schema, type=np.zeros_like(events.type), index=events.type)
    explained = {
        k: a.replace(events=events.replace(split=events.split)[events.split == 2])
        for k, a in finished_view(80).explained.items()
    }
    view = finished_view(80, explained={}, focus=("muon", "muon"))
    view = changed(view, events=events, explained=explained, focus=("jet", "jet"))
    found = {key: " ".join(ts) for key, ts in words(view)}
    assert "All pairs are jet–jet pairs: there are no others" in found["looked"]
    assert "jet 3–4" in found["edge_ig_pairs"]
    assert "they are grouped by their place in pT" in found["node_ig_types"]
    assert "any other" not in found["summary"]
    means = pair_means(map_of(view, "edge_ig").plain)
    assert means.labels[1][:4] == ("jet 1", "jet 2", "jet 3–4", "jet 5–8")
    plain = map_of(view, "edge_ig").plain
    rank = pt_rank(plain.events)
    chosen = plain.keep((rank[plain.pairs.dst] == 0) & (rank[plain.pairs.src] == 1))
    assert means.value[1, 0, 1] == chosen.population(chosen.events.label == 1).value


CAVEAT = (
    "The median completeness residual is 4.1 %, more than the 1 % asked for. The 90 % quantile is 85 %. "
    "Attention of a receiver adds up to 0.88, not 1. The surrogate is no better than a constant."
)


@pytest.mark.slow
def test_a_long_caveat_keeps_inside_every_figure(finished_view, monkeypatch, changed):
    monkeypatch.setattr(Attribution, "caveat", CAVEAT)
    view = finished_view(60)
    explained = {k: view.explained[k] for k in ("attention", "edge_ig", "node_ig")}
    for section in sections(changed(view, explained=explained)):
        for drawn in section.figures if section.level == 3 else ():
            figure = drawn.figure
            assert figure.get_supxlabel().replace("\n", " ") == CAVEAT
            figure.draw_without_rendering()
            note = figure._supxlabel.get_window_extent()
            assert note.x0 >= 0 <= note.y0
            assert note.x1 <= figure.bbox.width
            assert all(note.y1 <= ax.get_window_extent().y0 for ax in figure.axes)


@pytest.mark.parametrize(("loss", "text"), [(0.4821, "calibrated, it is 0.482 for"), (None, "AUC improves.")])
def test_why_the_validation_loss_is_high(finished_view, monkeypatch, loss, text):
    monkeypatch.setattr(RunView, "calibrated_loss", loss)
    (figure,) = training_section(finished_view(60)).figures
    assert text in figure.caption
    assert "the two losses do not compare" in figure.caption


def test_a_surrogate_does_not_start_from_the_score_of_the_model(finished_view):
    view = finished_view(100)
    assert not closure_part(view, map_of(view, "surrogate_edge_ig")).numbers


def test_the_baseline_is_named(finished_view):
    view = finished_view(100)
    node = view.explained["node_ig"]
    values = np.arange(30.0).reshape(5, 6).tolist()
    mean = {"baseline": "background_mean", "baseline_values": values}
    view = finished_view(100, explained={"node_ig": node.replace(settings=mean)})
    section = particles(view)
    assert "each particle starts as the mean background particle of its type" in " ".join(section.text)
    (table,) = (t for t in section.tables if "Baseline particle" in t.caption)
    assert table.header[:2] == ("particle", "energy [GeV]")
    assert table.rows[1] == ["muon", "6", "7", "8", "9", "10", "11"]


def test_a_baseline_that_is_called_signal_is_told(finished_view):
    view = finished_view(100)
    node = view.explained["node_ig"]
    far = node.replace(output_change=view.scores_of(node.events) - 5.0)
    section = particles(finished_view(100, explained={"node_ig": far}))
    assert any(t.startswith("Mind the baseline: the model calls it signal") for t in section.text)
    assert not any("Mind" in t for t in particles(view).text)


def test_features_that_equal_their_baseline_are_left_out_and_named(finished_view):
    view = finished_view(100)
    node = view.explained["node_ig"]
    values = node.values.copy()
    values[:, 4] = 0.0
    section = particles(finished_view(100, explained={"node_ig": node.replace(values=values)}))
    (drawn,) = (d for d in section.figures if d.name == "node_ig_features")
    shown = [t.get_text() for t in drawn.figure.axes[0].get_xticklabels()]
    assert shown == ["energy", "px", "py", "pz", "btag"]
    assert drawn.caption.endswith("(equal to the baseline): charge.")
    assert {r["feature"] for r in section.numbers["features"]} >= {"charge"}


# --- cut flow --------------------------------------------------------------------------------


def test_efficiency_without_weights_is_binomial():
    share, error = efficiency((30.0, 30**0.5), (120.0, 120**0.5))
    assert share == 0.25
    assert error == pytest.approx((0.25 * 0.75 / 120) ** 0.5)
    assert efficiency((5.0, 2.0), (5.0, 2.0)) == (1.0, 0.0)
    assert np.isnan(efficiency((0.0, 0.0), (0.0, 0.0))).all()


def test_the_error_of_an_efficiency_is_its_spread():
    rng = np.random.default_rng(2)
    shares, errors = [], []
    for _ in range(2000):
        weight = rng.choice([1.5, 0.5, -0.4], rng.poisson(400))
        kept = weight[rng.random(len(weight)) < 0.3]
        share, error = efficiency(
            (kept.sum(), np.sqrt(np.sum(kept**2))), (weight.sum(), np.sqrt(np.sum(weight**2)))
        )
        shares.append(share)
        errors.append(error)
    assert np.mean(errors) == pytest.approx(np.std(shares), rel=0.06)
    assert np.mean(shares) == pytest.approx(0.3, abs=0.003)


def test_a_selection_that_removes_nothing_is_called_so(finished_view):
    rows = [{"sample": "s", "step": n, "entries": 5, "weight": 5.0, "error": 2.2} for n in ("read", "cut")]
    section = cutflow_section(finished_view(60, cutflow=rows))
    assert "No step removes an event" in section.text[0]
    assert section.tables[0].folded
    assert not cutflow_section(finished_view(60)).text


# --- small things ----------------------------------------------------------------------------


def test_the_truth_in_the_displays_is_that_of_the_pair_in_focus(make_population):
    events = make_population(60)
    muons = events.is_type("muon")
    events = events.replace(truth={"fromTop": muons | events.is_type("bjet"), "fromA": muons})
    assert telling_truth(events, ("muon", "muon")) == "fromA"
    assert telling_truth(events.replace(truth={}), ("muon", "muon")) is None


def test_every_event_has_its_own_colours(finished_view):
    view = finished_view(200)
    drawn = display_figure(view, map_of(view, "edge_ig"))
    tops = {a.get_ylim() for a in drawn.figure.axes if a.get_label() == "<colorbar>"}
    assert len(tops) == 6
    assert all(low == pytest.approx(-high) for low, high in tops)


def test_provenance_is_a_small_table(finished_view):
    inputs = [{"file": "a.root", "sha256": "ab12", "entries": 12345}, {"file": "b.root", "entries": 3}]
    found = {"versions": {"python": "3.11"}, "seed": 1, "inputs": inputs, "nothing": []}
    section = provenance_section(finished_view(30, provenance=found))
    first, second = section.tables
    assert first.rows == [["versions", "python 3.11"], ["seed", "1"], ["nothing", ""]]
    assert second.header == ["file", "sha256", "entries"]
    assert second.rows == [["a.root", "ab12", "12,345"], ["b.root", "–", "3"]]
    assert second.words == 2


def test_methods_side_by_side_are_the_isolation_of_the_pair(finished_view):
    view = finished_view(150)
    rows = {r["method"]: r["shares"] for r in overview_section(view).numbers}
    assert list(rows) == ["attention", "edge IG", "surrogate IG"]
    own = view.explained["edge_ig"]
    slow = isolation(own[own.events.label == 1], view.focus)
    assert rows["edge IG"]["inside signal"] == {"value": float(slow.value), "error": float(slow.error)}


# --- surrogates that are not good enough -----------------------------------------------------


def test_a_poor_surrogate_is_named_in_figures_and_histograms(finished_view, tmp_path):
    view = finished_view(100)
    poor = ("surrogate below stated fidelity",)
    explained = {k: view.explained[k] for k in ("edge_ig", "node_ig")}
    for name, method in (("surrogate", "edge_ig"), ("surrogate_node", "node_ig")):
        explained[name] = explained[method].replace(method=name, concerns=poor)
    parts = list(sections(finished_view(100, explained=explained)))
    for section in (s for s in parts if s.level == 3):
        wanted = "surrogate below stated fidelity" if section.key.startswith("surrogate") else ""
        assert section.figures
        assert {d.figure.get_supxlabel().replace("\n", " ") for d in section.figures} == {wanted}
    path = tmp_path / "histograms.root"
    _write_histograms(path, {k: h for part in parts for k, h in part.histograms.items()})
    with uproot.open(path) as opened:
        for key in ("surrogate/focus_signal", "surrogate_node/types_signal", "residuals/surrogate"):
            assert opened[key].title == "surrogate below stated fidelity"
        assert opened["edge_ig/focus_signal"].title == ""
