"""Frame of all pages: what is open, and which page is shown."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import streamlit as st

from hepxai.app import folders, work
from hepxai.app.examples import EXAMPLES, cache_folder, is_trained
from hepxai.app.jobs import EXPECTED
from hepxai.app.sources import RunSource, Source
from hepxai.app.views import convergence, one_event, population, scan, upload
from hepxai.app.widgets import begin, choose, end, field, key_of, message, obtain, remember

log = logging.getLogger(__name__)
START, UPLOAD = "start", "upload"
PHONE = """<style>@media (max-width: 640px) {
  [data-testid="stColumn"]:has(.st-key-fields) { order: 1; }
}</style>"""
"""On a phone, where columns stand below each other, the figure comes before the fields."""
FIRST = {"graph": "Event", "table": "Table", "image": "Image"}
"""Name of the page of one event, by view."""


def main() -> None:
    """Show the page that the link asks for."""
    st.set_page_config(page_title="hepxai", page_icon="⚛️", layout="wide")
    begin()
    st.html(PHONE)
    try:
        _show()
    except EXPECTED as problem:
        text = problem.args[0] if isinstance(problem, KeyError) and problem.args else problem
        st.error(message(text), icon=":material/error:")
    except Exception:  # never a traceback, nor streamlit's links to other sites
        log.exception("unexpected error")
        st.error(
            "Something went wrong that was not foreseen; the terminal of `hepxai app` has the details",
            icon=":material/error:",
        )
    end()


def _show() -> None:
    folder = folders.target()
    runs = {} if folder is None else folders.runs_in(folder)
    titles = {} if runs else {START: "Choose an example or an upload"}
    titles |= {f"run:{name}": name for name in runs}
    titles |= {f"example:{n}": f"Example. {e.title}" for n, e in EXAMPLES.items()}
    titles[UPLOAD] = "Upload a model and events"
    left, right = st.columns([2, 3], vertical_alignment="bottom")
    with left:
        name = choose("What to explain", "open", tuple(titles), format_func=titles.__getitem__)
    remember("open", name, None)  # in every link: another start has another first one
    if name == START:
        _show_start()
        return
    kind, _, rest = name.partition(":")
    if kind == "run" and folders.is_scan(runs[rest]):
        scan.show(runs[rest])
        return
    study = _study(_source(kind, runs.get(rest), rest))
    if study is None:
        return
    if not study.methods:
        st.error(
            "No method works on this model; the report of `hepxai report` shows its scores\\.",
            icon=":material/error:",
        )
        return
    first = FIRST[study.view]
    pages: dict[str, Callable[[work.Study], None]] = {first: one_event.show}
    if not study.detects:
        pages |= {"Population": population.show, "Convergence": convergence.show}
    with right:
        options = {"valid": tuple(pages)}
        page = field(
            st.radio, "Page", "page", first, limits=options, horizontal=True, label_visibility="collapsed"
        )
    pages[page](study)


def _show_start() -> None:
    """Title, and what can be chosen."""
    st.title("hepxai: explain a model")
    st.markdown(
        "Choose above what to explain. An example is trained on a shipped sample when you ask for it, in a "
        "minute or less. An upload is a model of yours (a run folder, ONNX, XGBoost or skops) with events "
        "(ROOT, Parquet, npz or PNG). To see runs of this machine here, start the page with their folder: "
        "`hepxai app FOLDER`."
    )


def _source(kind: str, folder: Path | None, name: str) -> Source | None:
    """Source of the chosen run, example or upload; None while there is none."""
    if kind == "run":
        assert folder is not None
        return RunSource(folder)
    if kind == UPLOAD:
        return upload.show()
    cache = cache_folder()
    if is_trained(name, cache):
        return RunSource(cache / name)
    button = f"train {name}"
    if not st.session_state.get(button):
        st.info("This example is trained once, which takes a minute or less\\.")
        st.button("Train it", type="primary", on_click=st.session_state.update, args=({button: True},))
        return None
    path = obtain(key_of("example", name, str(cache)), "Training", work.train_example, name, str(cache))
    return None if path is None else RunSource(Path(path))


def _study(source: Source | None) -> work.Study | None:
    if source is None:
        return None
    key = key_of("open", repr(source), source.stamp())
    study: work.Study | None = obtain(key, "Opening", work.open_study, source)
    if study is not None and study.total > len(study.events):
        st.caption(f"{len(study.events):,} of {study.total:,} events are taken, evenly spread\\.")
    return study
