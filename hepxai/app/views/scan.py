"""Results of a scan: the sections of its page."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import streamlit as st
from matplotlib.figure import Figure

from hepxai.app import recipes
from hepxai.app.figures import LOCK
from hepxai.app.widgets import key_of, plain, show_figure
from hepxai.core.files import sha256
from hepxai.report.section import CaptionedFigure, Section, capital
from hepxai.scan import Scan, advice
from hepxai.scan.figures import ScanView
from hepxai.scan.page import scan_sections


def show(folder: Path) -> None:
    """Page of a scan."""
    scan = Scan.open(folder)
    results = scan.table()
    rows, lines = results.rows(), recipes.scan(str(folder))
    for about, sentences in advice(results, scan.dataset).items():
        st.markdown(f"**{plain(capital(about))}**")
        for sentence in sentences:
            st.markdown(plain(sentence))
    key = key_of(str(folder), sha256(folder / "scan.json"), rows == [], str(rows))
    with LOCK:
        sections = list(scan_sections(ScanView(scan, results)))
    for section in sections:
        _show(section, key, rows, lines)


def _figure(captioned: CaptionedFigure) -> Figure:
    return captioned.figure


def _show(section: Section, key: str, rows: list[dict[str, object]], lines: list[str]) -> None:
    st.subheader(plain(section.title))
    for text in section.text:
        st.caption(plain(text))
    for table in section.tables:
        with st.expander(plain(table.caption), expanded=not table.folded):
            st.dataframe([dict(zip(table.header, row, strict=True)) for row in table.rows], hide_index=True)
    for figure in section.figures:
        code = [*lines, f"figure = figures[{figure.name!r}]"]
        show_figure(figure.name, key, partial(_figure, figure), rows, code, caption=figure.caption)
