"""Parts of pages: fields that the link remembers, calculations with progress, figures with downloads."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import streamlit as st
from matplotlib.figure import Figure

from hepxai.app import jobs, link
from hepxai.app.cache import RESULTS
from hepxai.app.figures import FigureFiles, as_csv, figure_files
from hepxai.app.settings import Entry
from hepxai.core.fingerprint import fingerprint
from hepxai.events import Events

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_FOLDERS = re.compile(r"(?<![\w./:])(?:/[^\s/:'\"]+)+/(?=[^\s/])")
MOST = 1000
"""Upper end of a whole number without a limit of its own; or 100 times the default, if that is more."""
Rows = Sequence[Mapping[str, Any]]


def plain(text: object) -> str:
    """Text that Markdown shows as it is: names from files never become markup."""
    return _PUNCTUATION.sub(r"\\\1", " ".join(str(text).split()))


def message(text: object) -> str:
    """Plain text of a warning or an error: of files on this machine the name alone."""
    return plain(_FOLDERS.sub("", str(text)))


# --- fields ------------------------------------------------------------------------------------------------


def begin() -> None:
    """Start a page: no field is in the link yet."""
    st.session_state.setdefault("chosen", {})
    st.session_state["in_link"] = {}
    st.session_state["figures"] = 0
    st.session_state["asked"] = set()
    st.session_state["warned"] = set()


def end() -> None:
    """Cancel what this page did not ask for; write the fields that differ from their defaults to the link."""
    job = st.session_state.get("job")
    if job is not None and job.key not in st.session_state["asked"]:
        job.cancel()
    wanted = st.session_state["in_link"]
    if wanted != st.query_params.to_dict():
        st.query_params.from_dict(wanted)


def remember(key: str, value: Any, default: Any) -> None:
    """Put a value into the link of this page, unless it is the default."""
    st.session_state["chosen"][key] = value
    if value != default:
        st.session_state["in_link"][key] = link.encode(value)


def initial(key: str, default: Any, **limits: Any) -> Any:
    """Value of a field: the last one of this session, or that of the link, or the default."""
    chosen = st.session_state["chosen"]
    if key in chosen:
        return link.decode(link.encode(chosen[key]), default, **limits)
    return link.decode(st.query_params[key], default, **limits) if key in st.query_params else default


def field(
    draw: Callable[..., Any], label: str, key: str, default: Any, *, limits: Any = None, **options: Any
) -> Any:
    """Value of a field that the link remembers.

    Parameters
    ----------
    draw : callable
        Of streamlit.
    label, key : str
    default : object
    limits : mapping, optional
        Allowed values, see `hepxai.app.link.decode`.
    **options
        Of the field.
    """
    limits = limits or {}
    valid = limits.get("valid")
    if key not in st.session_state or not _is_valid(st.session_state[key], limits):
        st.session_state[key] = initial(key, default, **limits)
    if valid is not None:
        options["options"] = list(valid)
    value = draw(plain(label), key=key, **options)
    remember(key, value, default)
    return value


def _is_valid(value: Any, limits: Mapping[str, Any]) -> bool:
    if (valid := limits.get("valid")) is not None:
        return set(value) <= set(valid) if limits.get("kind") == "several" else value in valid
    low, high = limits.get("low"), limits.get("high")
    return value is None or not ((low is not None and value < low) or (high is not None and value > high))


def choose(label: str, key: str, options: Sequence[Any], default: Any = None, **more: Any) -> Any:
    """One of several values, in a list."""
    first = default if default in options else options[0]
    return field(st.selectbox, label, key, first, limits={"valid": tuple(options)}, **more)


def reset(prefix: str) -> None:
    """Forget the values of the fields whose keys begin with a prefix: they take their defaults."""
    for state in (st.session_state, st.session_state["chosen"], st.query_params):
        for key in [k for k in state if str(k).startswith(prefix)]:
            del state[key]


def form_of(entries: Sequence[Entry], prefix: str) -> dict[str, Any]:
    """Settings that differ from their defaults, from one field for each."""
    settings = {}
    for entry in entries:
        value = _setting(entry, f"{prefix}{entry.name}")
        if value != entry.default:
            settings[entry.name] = value
    return settings


def _setting(entry: Entry, key: str) -> Any:
    label, about = entry.name.replace("_", " "), plain(entry.about) or None
    if entry.kind == "choice":
        names = {None: "chosen by the method"}
        return choose(
            label, key, entry.options, entry.default, help=about, format_func=lambda v: names.get(v, str(v))
        )
    if entry.kind == "switch":
        return field(st.toggle, label, key, entry.default, limits={"kind": "switch"}, help=about)
    if entry.kind == "text":
        return _text_setting(entry, key, label, about)
    whole = entry.kind == "whole"
    ends = [
        None if v is None else int(v) if whole and abs(v) < 2**53 else float(v)
        for v in (entry.low, entry.high)
    ]
    if (whole and ends[1] is None) or (ends[1] or 0) > 2**53:
        ends[1] = max(MOST, 100 * (entry.default or 0))
    limits = {"kind": entry.kind, "low": ends[0], "high": ends[1]}
    options: dict[str, Any] = {"min_value": ends[0], "max_value": ends[1], "help": about}
    if entry.is_slider:
        return field(st.slider, label, key, entry.default, limits=limits, **options)
    options |= {"placeholder": "chosen by the method"} if entry.optional else {}
    options |= {"step": 1} if whole else {"format": "%g"}
    return field(st.number_input, label, key, entry.default, limits=limits, **options)


def _text_setting(entry: Entry, key: str, label: str, about: str | None) -> Any:
    default = entry.default
    text = (
        ""
        if default is None
        else ", ".join(map(str, default))
        if isinstance(default, tuple)
        else str(default)
    )
    hint = f"{', '.join(entry.options)}, or numbers" if entry.options else "chosen by the method"
    value = entry.parse(field(st.text_input, label, key, text, help=about, placeholder=hint))
    return default if value == default else value


# --- calculations ------------------------------------------------------------------------------------------


def key_of(*parts: Any) -> str:
    """Key of a result: the hash of all that it depends on; of events also what no model reads."""
    return fingerprint(*(_whole(part) if isinstance(part, Events) else part for part in parts))


def _whole(events: Events) -> str:
    columns = (events.weight, events.split, *events.observers.values())
    return fingerprint(events, *columns, [*events.observers], list(events.files), events.schema.to_json())


def obtain(key: str, title: str, function: Callable[..., Any], *arguments: Any, quiet: bool = False) -> Any:
    """Result of a calculation, with its progress on the page; None if there is none (yet).

    Warnings and errors are shown as sentences, unless ``quiet``: see `error_of`.
    """
    stored, errors = RESULTS.get(key), st.session_state.setdefault("errors", {})
    if stored is None and key not in errors:
        outcome = _run_job(key, title, function, arguments)
        if outcome.error:
            errors[key] = outcome.error
        else:
            stored = (outcome.value, outcome.warnings)
            RESULTS.put(key, stored)
    if stored is None:
        if not quiet:
            _show_error(key, title, errors[key])
        return None
    value, warnings = stored
    for text in () if quiet else warnings:
        if text not in st.session_state["warned"]:
            st.warning(message(text), icon=":material/warning:")
        st.session_state["warned"].add(text)
    return value


def error_of(key: str) -> str:
    """Sentence about a calculation without a result; empty for others."""
    return str(st.session_state.get("errors", {}).get(key, ""))


def _run_job(key: str, title: str, function: Callable[..., Any], arguments: tuple[Any, ...]) -> jobs.Outcome:
    job = st.session_state.get("job")
    st.session_state["asked"].add(key)
    if job is None or job.key != key:
        if job is not None:
            job.cancel()
        job = st.session_state["job"] = jobs.Job(key, function, *arguments)
    place = st.empty()
    outcome: jobs.Outcome | None = job.poll()
    if outcome is None:
        with place.container():
            bar = st.progress(0.0, plain(title))
            st.button("Cancel", key=f"cancel {key}", on_click=job.cancel)
        while (outcome := job.poll()) is None:
            bar.progress(job.progress, f"{plain(title)}: {plain(job.what)}")
            time.sleep(0.1)
    place.empty()
    return outcome


def _show_error(key: str, title: str, error: str) -> None:
    if error == "cancelled":
        st.info(f"{plain(title)}: cancelled\\.", icon=":material/stop_circle:")
    else:
        st.error(f"{plain(title)}: {message(error)}", icon=":material/error:")
    st.button("Try again", key=f"again {key}", on_click=forget, args=(key,))


def forget(*keys: str) -> None:
    """Forget the errors of calculations, which then begin again."""
    for key in keys:
        st.session_state["errors"].pop(key, None)
    st.session_state.pop("job", None)


# --- figures ------------------------------------------------------------------------------------------------


def show_figure(
    name: str, key: str, draw: Callable[[], Figure], rows: Rows, lines: Sequence[str], *, caption: str = ""
) -> None:
    """Show a figure with its downloads: PNG, PDF, numbers as CSV, and the Python that makes them.

    Parameters
    ----------
    name : str
        Of the files.
    key : str
        Hash of the numbers.
    draw : callable
    rows : sequence of mapping
        Numbers.
    lines : sequence of str
        Python.
    caption : str
        Plain text.
    """
    files = RESULTS.get(f"figure {name} {key}")
    if files is None:
        try:
            files = figure_files(draw)
        except (ValueError, KeyError, ZeroDivisionError, np.linalg.LinAlgError) as problem:
            text = problem.args[0] if problem.args else problem
            st.info(f"No figure: {message(text)}")
            return
        RESULTS.put(f"figure {name} {key}", files)
    st.image(files.png, caption=plain(caption) or None, width="stretch")
    _downloads(name, files, rows, lines)


def _downloads(name: str, files: FigureFiles, rows: Rows, lines: Sequence[str]) -> None:
    with st.expander("Download: figure, numbers, Python"):
        code = "\n".join(lines) + "\n"
        data = {"png": files.png, "pdf": files.pdf, "csv": as_csv(rows).encode(), "py": code.encode()}
        number = st.session_state["figures"] = st.session_state["figures"] + 1
        row = st.container(horizontal=True)
        for kind, content in data.items():
            label = {"png": "PNG", "pdf": "PDF", "csv": "Numbers (CSV)", "py": "Python"}[kind]
            file = f"{name}.{kind}"
            row.download_button(label, content, file, key=f"{kind} {number}", on_click="ignore")
        st.code(code, language="python", wrap_lines=True)
