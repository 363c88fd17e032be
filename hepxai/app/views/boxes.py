"""Boxes that a detector finds in one image, with a map for each."""

from __future__ import annotations

from typing import Any

import numpy as np
import streamlit as st

from hepxai.app import recipes
from hepxai.app.views import choice
from hepxai.app.widgets import field, key_of, obtain, plain, show_figure
from hepxai.app.work import Study, explain_image
from hepxai.metrics.event_maps import rows_of
from hepxai.studies.detection.figures import box_maps


def show_boxes(study: Study, row: int, place: Any) -> None:
    """Fields and figure of the boxes of an image."""
    method = choice.method(study, "Method", "a")
    limits = {"kind": "number", "low": 0.05, "high": 0.95}
    score = field(
        st.slider, "Smallest score of a box", "score", 0.5, limits=limits, min_value=0.05, max_value=0.95
    )
    assert method is not None
    with place:
        st.caption(plain(choice.about(study, row)))
        event, key = (
            study.events[[row]],
            key_of(study.key, study.events, row, method.name, score, method.settings),
        )
        maps = obtain(
            key, method.title, explain_image, study.source, event, method.name, score, method.settings
        )
        if maps is None:
            return
        lines = recipes.boxes(study, row, method.name, score, method.settings)
        lines += [
            "from hepxai.studies.detection.figures import box_maps",
            f"figure = box_maps(maps, events[[{row}]], 0)",
        ]
        rows = [
            {"box": i + 1, **line}
            for i in range(len(maps))
            for line in rows_of(maps.attribution[np.array([i])])
        ]
        show_figure(f"boxes_{row}_{method.name}", key, lambda: box_maps(maps, event, 0), rows, lines)
