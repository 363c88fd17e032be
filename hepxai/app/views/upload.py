"""Form for uploaded events and an uploaded model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import streamlit as st

from hepxai.app import uploads, work
from hepxai.app.limits import EVENT_BYTES, MB, MODEL_BYTES, RefusedError
from hepxai.app.sources import EventFiles, ModelFile, UploadSource
from hepxai.app.widgets import key_of, message, obtain, plain
from hepxai.cards import find_card, list_cards

DRAFT, OF_RUN = "drafted from the branches of the file", "that of the run"
VIEWS = {
    "particles of each event": "padded",
    "table of event columns": "table",
    "image": "image",
}


def show() -> UploadSource | None:
    """Form; returns what was opened, or None."""
    if "session" not in st.session_state:  # setdefault would make a folder each time
        st.session_state["session"] = uploads.Session()
    session: uploads.Session = st.session_state["session"]
    with st.expander("Upload", expanded="upload" not in st.session_state):
        st.markdown(
            "Files stay in a folder of this session, which nobody else sees, and are deleted at its end\\. "
            "Nothing in them is executed\\."
        )
        left, right = st.columns(2)
        model_data = left.file_uploader(
            f"Model: zip of a run folder, ONNX, XGBoost JSON, skops (up to {MODEL_BYTES // MB} MB)",
            key="model file",
        )
        event_data = right.file_uploader(
            f"Events: ROOT, Parquet, npz; PNG for images (up to {EVENT_BYTES // MB} MB each)",
            accept_multiple_files=True,
            key="event files",
        )
        model, files = _stored(session, model_data, event_data or [])
        if files is not None:
            new = _source(model, *files)
            if new is not None and st.button("Open these files", type="primary"):
                st.session_state["upload"] = new
                session.use_latest()
    source: UploadSource | None = st.session_state.get("upload")
    return source


def _stored(session: uploads.Session, model: Any, events: list[Any]) -> tuple[ModelFile | None, Any]:
    """Model, and folder, paths and kind of the events; written once for each set of files."""
    return (
        None if model is None else session.once("model", [model], uploads.store_model),
        session.once("events", events, uploads.store_events) if events else None,
    )


def _source(model: ModelFile | None, folder: Path, paths: list[Path], kind: str) -> UploadSource | None:
    """Source from the fields of the form; None until all are given."""
    forms = {"root": _root, "parquet": _parquet, "npz": _npz, "png": _png, "events": _saved}
    events = forms[kind](model, folder, paths)
    if model is None:
        st.info("Choose a model, too\\.")
    if model is None or events is None:
        return None
    if model.kind != "onnx":
        return UploadSource(events, model)
    source = UploadSource(events, _onnx(model, events))
    return source if _fits(source) else None


def _fits(source: UploadSource) -> bool:
    """Show what an ONNX model will receive beside the inputs of the file; False where they do not fit."""
    key = key_of("inputs", repr(source), source.stamp())
    inputs: work.ModelInputs | None = obtain(key, "Inputs of the model", work.model_inputs, source)
    if inputs is None:
        return False
    left, right = st.columns(2)
    left.caption(f"The model will receive {len(inputs.names)} {inputs.what}, in this order")
    table = {"position": range(1, len(inputs.names) + 1), inputs.what: inputs.names}
    left.dataframe(table, hide_index=True, height=200)
    right.caption("Inputs of the ONNX file")
    right.dataframe({"input": [*inputs.tensors], "shape": [*inputs.tensors.values()]}, hide_index=True)
    if inputs.problem:
        st.error(message(inputs.problem), icon=":material/error:")
    return not inputs.problem


def _onnx(model: ModelFile, events: EventFiles) -> ModelFile:
    images = events.kind in ("images",)
    names = list(VIEWS)
    view = VIEWS[st.selectbox("The ONNX model reads", names, index=2 if images else 0)]
    outputs = st.text_input(
        "Names of its outputs", "signal", help="In their order, with commas; logits or probabilities"
    )
    output_names = tuple(n.strip() for n in outputs.split(",") if n.strip())
    options: dict[str, Any] = {"outputs": output_names, "view": view}
    if view == "padded":
        order = st.selectbox("Shape of its input", ("event, particle, feature", "event, feature, particle"))
        options["features_first"] = order != "event, particle, feature"
    return ModelFile("onnx", model.path, options)


def _root(model: ModelFile | None, folder: Path, paths: list[Path]) -> EventFiles | None:
    of_run = uploads.card_of_run(model)
    options = [OF_RUN] * bool(of_run) + [DRAFT, *list_cards("datasets")]
    name = st.selectbox("Card: which branches are particles, columns and weights", options)
    if name == OF_RUN:
        text: str | None = of_run
    elif name == DRAFT:
        text = _draft(folder, paths)
    else:
        text = find_card("datasets", name).read_text(encoding="utf-8")
    if text is None:
        return None
    text = st.text_area(
        "The card, to edit; its samples are replaced by the uploaded files",
        text,
        height=220,
        key=f"card {name} {folder}",
    )
    try:
        events = uploads.root_events(folder, text, _classes(text, paths))
        text = events.paths[0].read_text(encoding="utf-8")
        return events
    finally:  # a card with an error, too
        st.download_button("Download card\\.yaml", text, uploads.CARD, on_click="ignore")


def _draft(folder: Path, paths: list[Path]) -> str | None:
    """Text of a draft, with a sentence about its classes."""
    draft = obtain(key_of("draft", str(folder)), "Draft of a card", uploads.draft_text, paths)
    if draft is None:
        return None
    text, problem = draft
    if problem:
        st.warning(f"{message(problem)}\\. Complete the card below\\.", icon=":material/warning:")
    classes = dict.fromkeys(uploads.classes_by_name([p.name for p in paths]).values())
    one = " With one class there is nothing to tell apart." if len(classes) == 1 else ""
    sentence = f"Classes from the names of the files: {', '.join(classes)}.{one} Edit them on the card."
    st.caption(plain(sentence))
    return str(text)


def _classes(text: str, paths: list[Path]) -> dict[str, str | None]:
    """Class of each file, chosen among those on the card; None where the card has conditions."""
    classes, by_name = uploads.classes_of(text), uploads.classes_by_name([p.name for p in paths])
    if not classes:
        return dict.fromkeys(by_name)
    files: dict[str, str | None] = {}
    for i, path in enumerate(paths):
        inside = [c for c in classes if c.lower() in path.stem.lower()]
        guesses = (by_name[path.name], *inside, classes[min(i, len(classes) - 1)])
        guess = next(c for c in guesses if c in classes)
        files[path.name] = st.selectbox(f"Class of {plain(path.name)}", classes, index=classes.index(guess))
    return files


def _parquet(model: ModelFile | None, folder: Path, paths: list[Path]) -> EventFiles | None:
    is_ours, lists, others = uploads.columns_in(paths[0])
    if is_ours:
        return EventFiles("saved", tuple(paths))
    features = st.multiselect(
        "Features of the particles, in the order of the training", lists, default=_of(model, lists)
    )
    label = st.selectbox("Column of class numbers", [None, *others])
    columns = st.multiselect("Columns of the table", others, default=_of(model, others, "globals"))
    options: dict[str, Any] = {"features": features, "label": label, "globals": columns}
    if st.toggle("The particles have no momenta"):
        options["p4"] = "none"
    return (
        EventFiles("lists", tuple(paths), {k: v for k, v in options.items() if v})
        if features or columns
        else None
    )


def _npz(model: ModelFile | None, folder: Path, paths: list[Path]) -> EventFiles | None:
    shapes = uploads.arrays_in(paths[0])
    choices = [n for n, shape in shapes.items() if len(shape) in (3, 4)]
    if not choices:
        raise RefusedError(
            f"{paths[0].name} has no array of particles [event, particle, feature] or of images "
            f"[event, channel, row, column]; there are {', '.join(f'{n} {s}' for n, s in shapes.items())}"
        )
    name = st.selectbox("Array", choices, format_func=lambda n: f"{n} {shapes[n]}")
    kinds = ("images", "particles") if len(shapes[name]) == 4 or "im" in name else ("particles", "images")
    is_image = len(shapes[name]) == 4 or st.selectbox("It holds", kinds) == "images"
    labels = [None, *(n for n, s in shapes.items() if len(s) == 1)]
    label = st.selectbox(
        "Array of class numbers", labels, index=labels.index("label") if "label" in labels else 0
    )
    options: dict[str, Any]
    if is_image:
        options = {"images": name} | ({"labels": label} if label else {})
        return EventFiles("images", tuple(paths), options)
    default = ", ".join(_of(model, None)) or ", ".join(f"feature_{i}" for i in range(shapes[name][-1]))
    text = st.text_input("Names of the features", default)
    features = [n.strip() for n in text.split(",") if n.strip()]
    options = {
        "features": features,
        "x": name,
        "mask": "mask" if "mask" in shapes else None,
        **({"label": label} if label else {}),
    }
    if not st.toggle("The features hold the momenta (pt, eta, phi, mass or energy)"):
        options["p4"] = "none"
    return EventFiles("padded", tuple(paths), options)


def _png(model: ModelFile | None, folder: Path, paths: list[Path]) -> EventFiles:
    return EventFiles("images", tuple(paths))


def _saved(model: ModelFile | None, folder: Path, paths: list[Path]) -> EventFiles:
    return EventFiles("saved", tuple(paths))


def _of(model: ModelFile | None, names: list[str] | None, what: str = "features") -> list[str]:
    """Features or columns of the training of an uploaded run, those among some names."""
    if model is None or model.kind != "run":
        return []
    schema = obtain(key_of("schema", model.hash()), "Reading the model", work.trained_schema, model)
    in_training = list(getattr(schema, what, ()))
    return in_training if names is None else [n for n in in_training if n in names]
