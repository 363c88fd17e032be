"""The page of a report as a place to explore: its script, its event browser, its hover values."""

from __future__ import annotations

import base64
import copy
import hashlib
import json
import re

import numpy as np
import pytest
from matplotlib.figure import Figure

from hepxai.attribution.means import pair_means
from hepxai.attribution.reductions import reduced, relative_to_uniform
from hepxai.core.html import content_policy, script_data
from hepxai.plots.hover import add_text, spots
from hepxai.plots.matrices import pair_types
from hepxai.report import write_report
from hepxai.report.browser import EVENTS, PAIRS, browser_section
from hepxai.report.layer_attributions import maps
from hepxai.report.write import _save_some, sections

BAD = "<img src=x onerror=\"document.title='run'\"></script><script>document.title='run'</script>"


@pytest.fixture(scope="module")
def view(finished_view):
    view = finished_view(600)
    return finished_view(600, explained={k: view.explained[k] for k in ("attention", "node_ig")})


def blank(figure, target, ending):
    """In place of a figure: its layout is what these tests need, and drawing takes longest."""
    text = b"<svg xmlns='http://www.w3.org/2000/svg' width='4' height='3'/>"
    target.write_bytes(text) if ending != "svg" else target.write(text)


@pytest.fixture(scope="module", autouse=True)
def undrawn():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hepxai.report.write._print", blank)
        yield


@pytest.fixture(scope="module")
def written(view, tmp_path_factory):
    return write_report(view.run, tmp_path_factory.mktemp("page"))


@pytest.fixture
def page(chromium, written):
    page = chromium.new_page(viewport={"width": 1400, "height": 900})
    page.complaints, page.addresses = [], []
    page.on("console", lambda message: page.complaints.append(message.text))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.on("request", lambda request: page.addresses.append(request.url))
    page.goto(written.as_uri())
    yield page
    page.close()


# --- safety ----------------------------------------------------------------------------------------


def test_the_policy_names_the_only_script(written):
    html = written.read_text()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', html)[1].replace("&#39;", "'")
    script = re.search(r"<script>(.*?)</script>", html, flags=re.DOTALL)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy == content_policy(script)
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy
    assert "unsafe-inline" not in policy.partition("script-src")[2]


@pytest.mark.parametrize("text", ["</script><script>", "<!--", "a & b", "\u2028", "μμ"])
def test_data_cannot_leave_their_script_element(text):
    written = script_data({"name": text})
    assert not set("<>&") & set(written)
    assert json.loads(written) == {"name": text}


def test_nan_is_no_data():
    with pytest.raises(ValueError, match="JSON"):
        script_data([float("nan")])


def test_the_page_asks_for_nothing_and_complains_of_nothing(page, written):
    page.wait_for_timeout(200)
    assert page.complaints == []
    assert [a for a in page.addresses if not a.startswith("data:image/svg+xml,")] == [written.as_uri()]


def test_names_in_files_never_become_markup(finished_view, chromium, tmp_path):
    view = finished_view(80)
    schema = view.events.schema
    types = (*schema.types[:3], BAD, schema.types[4])
    schema = type(schema)(**vars(schema) | {"types": types, "classes": ("background", BAD)})
    attention = view.explained["attention"]
    attention = attention.replace(events=attention.events.replace(schema=schema))
    changed = {"events": view.events.replace(schema=schema), "explained": {"attention": attention}}
    page = chromium.new_page()
    page.goto(write_report(finished_view(80, name=BAD, **changed).run, tmp_path).as_uri())
    page.locator(".event [tabindex]").first.focus()
    page.wait_for_timeout(200)
    assert page.title().startswith(BAD)  # as text
    assert page.locator("img[onerror]").count() == 0
    page.close()


# --- hover values ----------------------------------------------------------------------------------


def test_a_spot_is_where_its_rectangle_is():
    figure = Figure()
    ax = figure.add_axes((0.1, 0.2, 0.5, 0.6), xlim=(0, 10), ylim=(4, 0))
    add_text(ax, (0, 0, 5, 1), "upper left")
    (spot,) = spots(figure)
    expected = (10.0, 20.0, 25.0, 15.0)
    assert (spot.left, spot.top, spot.width, spot.height) == pytest.approx(expected, abs=0.01)
    assert spot.text == "upper left"


def test_every_cell_of_a_matrix_says_its_number(view):
    plain = reduced(relative_to_uniform(view.explained["attention"]))
    means = pair_means(plain)
    texts = [s.text for s in spots(pair_types(plain, "signal", means=means).figure)]
    assert len(texts) == np.count_nonzero(means.events[1])
    row = next(r for r in means.rows() if r["class"] == "signal" and r["receiver"] == "muon" == r["sender"])
    (text,) = (t for t in texts if t.startswith("signal: receiver muon, sender muon\n"))
    assert f"{row['value']:.2f}"[:3] in text
    assert f"{row['events']:,} events" in text


def test_a_pointer_on_a_cell_shows_it(page):
    spot = page.locator("#attention .spot").first
    spot.scroll_into_view_if_needed()
    spot.hover()
    tip = page.locator("#tip")
    assert tip.is_visible()
    assert tip.inner_text() == spot.get_attribute("data-tip")


# --- event browser ---------------------------------------------------------------------------------


def test_the_browser_has_the_values_of_the_maps(view):
    data, layers = browser_section(view).browser, list(maps(view))
    assert [m["name"] for m in data["maps"]] == [layer.name for layer in layers]
    events = layers[0].plain.events
    rows = {
        f"{r}:{b}:{e}": i
        for i, (r, b, e) in enumerate(zip(events.run, events.luminosity_block, events.event, strict=True))
    }
    assert min(EVENTS, len(events)) <= len(data["events"]) <= len(events)
    for place, event in enumerate(data["events"]):
        row = rows[event["id"]]
        assert data["maps"][0]["scores"][place] == pytest.approx(view.scores_of(events[[row]])[0], rel=0.01)
        start, stop = events.offsets[row : row + 2]
        assert [p[2] for p in event["particles"]] == pytest.approx(events.p4[start:stop, 0], rel=1e-3)
        for layer, drawn in zip(layers, data["maps"], strict=True):
            pairs, values = drawn["over"] == "pair", drawn["values"][place]
            expected = dict(pair_values(layer, row) if pairs else particle_values(layer, row))
            on_page = {tuple(v[:2]): v[2] for v in values} if pairs else dict(enumerate(v[0] for v in values))
            assert len(on_page) == (min(PAIRS, len(expected)) if pairs else len(expected))
            assert on_page == pytest.approx({k: expected[k] for k in on_page}, rel=0.01)


def pair_values(layer, row):
    pairs, first = layer.plain.pairs, layer.plain.events.offsets[row]
    for i in range(*pairs.offsets[row : row + 2]):
        yield (int(pairs.src[i] - first), int(pairs.dst[i] - first)), float(layer.plain.values[i])


def particle_values(layer, row):
    start, stop = layer.plain.events.offsets[row : row + 2]
    yield from enumerate(layer.plain.values[start:stop].tolist())


def test_no_maps_no_browser(finished_view):
    assert browser_section(finished_view(60, explained={})) is None


def test_events_are_chosen_by_class_and_score(page, view):
    data = browser_section(view).browser
    scores = {e["id"]: s for e, s in zip(data["events"], data["maps"][0]["scores"], strict=True)}
    page.select_option(".bar select >> nth=1", label="signal")
    page.select_option(".bar select >> nth=2", index=1)
    names = page.locator(".steps option").all_inner_texts()
    assert all(name.endswith("(signal)") for name in names)
    ordered = [scores[name.split()[0]] for name in names]
    assert ordered == sorted(ordered, reverse=True)
    page.keyboard.press("Tab")
    page.click("button[aria-label='next event']")
    assert names[1].split()[0] in page.locator(".browser > p").last.inner_text()
    page.select_option(".bar select >> nth=0", index=1)  # a map over particles
    assert page.locator(".event tbody tr").count() == page.locator(".event svg path[tabindex]").count()


# --- tables and sections ---------------------------------------------------------------------------


def test_a_click_sorts_a_table_by_number(page):
    table = page.locator("#attention table", has_text="pairs").first
    page.evaluate("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    header = table.locator("th", has_text="pairs").last

    def column():
        cells = table.locator("tbody tr td:last-child").all_inner_texts()
        return [float(c.replace(",", "")) for c in cells]

    before = column()
    header.locator("button").click()
    assert column() == sorted(before)
    assert header.get_attribute("aria-sort") == "ascending"
    header.locator("button").press("Enter")
    assert column() == sorted(before, reverse=True)
    header.locator("button").click()
    assert column() == before


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("−0.5 ± 0.1", -0.5),
        ("1,234 ± 5", 1234),
        ("(1.2 ± 0.3)×10⁻³", 1.2e-3),
        ("5×10²", 500),
        ("> 4", 4),
        ("82 %", 82),
    ],
)
def test_numbers_are_read_as_they_are_written(page, text, number):
    assert page.evaluate(f"quantity({json.dumps(text)})") == pytest.approx(number)


def test_sections_fold_and_a_link_unfolds(page):
    page.click("text=Fold all")
    assert page.locator("section > details[open]").count() == 0
    page.click("nav a[href='#roc']")
    page.wait_for_timeout(100)
    assert page.locator("#roc > details[open]").count() == 1


def test_light_and_dark(page):
    colour = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(colour)
    page.click("text=Light / dark")
    assert page.evaluate(colour) != before


@pytest.mark.parametrize("width", [390, 1400])
def test_nothing_is_wider_than_the_screen(page, width):
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_another_process_writes_the_same_figures(view, tmp_path):
    """Of copies of the figures, as another process has them: with all texts."""
    drawings = [f for part in sections(view) for f in part.figures if f.name.endswith("pairs")]
    both = zip(("here", "there"), (drawings, copy.deepcopy(drawings)), strict=True)
    here, there = (_save_some(several, tmp_path / name, False) for name, several in both)
    assert here == there
    assert all(printed.spots for printed in here.values())
