"""Networks and trees in ONNX files, scored by onnxruntime."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from hepxai.core.chunks import chunk_rows, image_rows, in_order
from hepxai.events import Events, Schema
from hepxai.models.schemas import (
    checked_outputs,
    image_size,
    layout_of,
    listed,
    need_columns,
    same_columns,
    same_image,
    same_inputs,
)
from hepxai.models.table.rows import need_scores
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.onnx_file import ROWS, Array, OnnxGraph, as_text, as_torch, read_graph
from hepxai.models.wrappers.table import TableModel

FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
MASKS = {"tensor(bool)": np.bool_, "tensor(int64)": np.int64, "tensor(int32)": np.int32}


@dataclass(frozen=True)
class OnnxTableModel:
    """An ONNX file that scores the event-level table; made by `load_onnx`.

    Attributes
    ----------
    graph : OnnxGraph
    outputs : tuple of str, length O
    schema : Schema
    input : str
        Tensor that takes the table; "" where every column is an input of its own.
    """

    graph: OnnxGraph
    outputs: tuple[str, ...]
    schema: Schema
    input: str
    view: str = field(default="table", init=False)

    def logits(self, events: Events) -> Array:
        """Logits ``[E, O]``."""
        same_columns(self.schema, events.schema)
        return need_scores(self.score_table(events.table()[0]), events)

    def score_table(self, x: NDArray[np.float32]) -> Array:
        """Logits ``[E, O]`` of rows of the table."""
        return self.graph.logits(self._values(x), len(self.outputs))

    def _values(self, x: NDArray[np.float32]) -> Array:
        if self.input:
            return self.graph.values({self.input: _cast(x, self.graph.inputs[self.input])})
        columns = dict(zip(self.schema.globals, x.T, strict=True))
        return self.graph.values(
            {
                n: _cast(columns[n][:, None] if len(i.shape) == 2 else columns[n], i)
                for n, i in self.graph.inputs.items()
            }
        )

    def with_probed_scores(self) -> OnnxTableModel:
        """Model that takes the logarithm of its scores if those of random rows are probabilities.

        One column counts as a probability only behind a classifier: a regression may give any number.
        """
        x = np.random.default_rng(0).normal(size=(64, len(self.schema.globals))).astype(np.float32)
        values = self._values(x)
        columns = self.graph.probabilities or values.shape[1] == 2
        probabilities = columns and self.graph.are_probabilities(values)
        return replace(self, graph=replace(self.graph, probabilities=probabilities))


@dataclass(frozen=True)
class OnnxImageModel:
    """An ONNX file that scores detector images; made by `load_onnx`.

    Attributes
    ----------
    graph : OnnxGraph
    outputs : tuple of str, length O
    schema : Schema
    input : str
    channels_last : bool
        True if the file takes ``[E, R, C, T]``, as Keras does.
    """

    graph: OnnxGraph
    outputs: tuple[str, ...]
    schema: Schema
    input: str
    channels_last: bool
    view: str = field(default="image", init=False)

    def logits(self, events: Events) -> Array:
        """Outputs ``[E, O]``, in chunks of flat memory."""
        same_image(self.schema, events.schema)
        rows = image_rows(len(events), layout_of(self.schema).shape)
        values = in_order([self._values(events[r].image()) for r in rows], rows, (0, 0))
        return need_scores(self.graph.logits(values, len(self.outputs)), events)

    def score_image(self, x: NDArray[np.float32]) -> Array:
        """Outputs ``[E, O]`` of images ``[E, T, R, C]``."""
        return self.graph.logits(self._values(x), len(self.outputs))

    def _values(self, x: NDArray[np.float32]) -> Array:
        images = np.moveaxis(x, 1, -1) if self.channels_last else x
        return self.graph.values({self.input: _cast(images, self.graph.inputs[self.input])})


@dataclass(frozen=True)
class OnnxParticleModel:
    """An ONNX file that scores padded particles; made by `load_onnx`.

    Attributes
    ----------
    graph : OnnxGraph
    outputs : tuple of str, length O
    schema : Schema
    input : str
        Tensor that takes the features ``[E, M, F]``, or ``[E, F, M]``.
    mask : str, optional
        Tensor that takes 1 for particles, 0 for the padding.
    features_first : bool
    """

    graph: OnnxGraph
    outputs: tuple[str, ...]
    schema: Schema
    input: str
    mask: str | None
    features_first: bool
    view: str = field(default="padded", init=False)

    def logits(self, events: Events) -> Array:
        """Logits ``[E, O]``; a file for a fixed number of particles refuses events with more."""
        same_inputs(self.schema, events.schema)
        size, rows = len(events), self.graph.batch or ROWS
        order = np.argsort(events.counts, kind="stable")
        if self.graph.batch or self._maximum is not None:
            chunks = [order[i : i + rows] for i in range(0, size, rows)]
        else:
            chunks = chunk_rows(events.counts)
        values = in_order([self._values(events[r]) for r in chunks], chunks, (0, 0))
        return need_scores(self.graph.logits(values, len(self.outputs)), events)

    @property
    def _maximum(self) -> int | None:
        size = self.graph.inputs[self.input].shape[2 if self.features_first else 1]
        return size if isinstance(size, int) else None

    def _values(self, events: Events) -> Array:
        longest = max(int(events.counts.max(initial=0)), 1)  # maxima over no particle fail in onnxruntime
        x, real = events.padded(longest if self._maximum is None else self._maximum)
        inputs = self.graph.inputs
        feed = {self.input: _cast(x.swapaxes(1, 2) if self.features_first else x, inputs[self.input])}
        if self.mask:
            shape = (*real.shape, 1) if len(inputs[self.mask].shape) == 3 else real.shape
            shape = (len(real), 1, -1) if self.features_first and len(shape) == 3 else shape
            feed[self.mask] = _cast(real.reshape(shape), inputs[self.mask])
        return self.graph.values(feed)


OnnxModel = OnnxTableModel | OnnxImageModel | OnnxParticleModel | TableModel | ImageModel


def load_onnx(
    path: str | Path,
    schema: Schema,
    outputs: tuple[str, ...],
    *,
    view: Literal["table", "image", "padded"] = "table",
    input: str | None = None,
    output: str | None = None,
    mask: str | None = None,
    features_first: bool | None = None,
    gradients: bool = False,
) -> OnnxModel:
    """Model in an ONNX file.

    Scores are logits: a final softmax or sigmoid is removed. The probabilities of classifiers that
    scikit-learn's converter writes become log(p / (1 - p)) for two classes, log(p) for more; for these,
    explain differences of log(p). Of two outputs where one is named, the difference is taken.

    Parameters
    ----------
    path : str or Path
    schema : Schema
        Of the training events (``events.schema``). A file holds no names of columns or features: their
        number is checked, not their order.
    outputs : tuple of str, length O
    view : str
        View of the events that the file takes, see `Events`.
    input, output, mask : str, optional
        Names of tensors in the file, needed where it has several. ``output`` may be any tensor. If it names
        the scores of a classifier, they are logits unless they lie in [0, 1] and add up to 1.
    features_first : bool, optional
        True if padded particles are ``[E, F, M]``; needed where the shape in the file leaves it open.
    gradients : bool
        Convert the file to a torch module, for methods that need gradients; onnx2torch must be installed, and
        the module must give the scores of the file.

    Raises
    ------
    ValueError
        If it is no ONNX file, its weights lie outside its folder, its inputs do not fit the schema, or the
        conversion fails.
    MissingExtraError
        If onnx, onnxruntime or onnx2torch is not installed.
    """
    outputs = checked_outputs(outputs)
    if view not in ("table", "image", "padded"):
        raise ValueError(f"view={view!r}; choose one of table, image, padded")
    if view != "padded" and not (mask is None and features_first is None):
        raise ValueError(f"mask and features_first are settings of view='padded', not of view={view!r}")
    try:
        graph, content = read_graph(Path(path), output)
        model: Any
        if view == "table":
            model = _table(graph, outputs, schema, input)
            if graph.probabilities if output else not graph.probabilities and len(outputs) == 1:
                model = model.with_probed_scores()
        elif view == "image":
            model = _image(graph, outputs, schema, input)
        else:
            model = _padded(graph, outputs, schema, input, mask, features_first)
        return cast(OnnxModel, as_torch(model, content) if gradients else model)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


# --- inputs ------------------------------------------------------------------------------------------


def _table(graph: OnnxGraph, outputs: Any, schema: Schema, name: str | None) -> OnnxTableModel:
    need_columns(schema)
    columns = schema.globals
    if name is None and len(graph.inputs) > 1 and set(graph.inputs) == set(columns):
        for n, tensor in graph.inputs.items():
            if len(tensor.shape) not in (1, 2) or not _matches(
                tensor.shape[1:], (1,) * len(tensor.shape[1:])
            ):
                raise ValueError(
                    f"the input {n} has the shape {as_text(tensor.shape)}; a column [event, 1] is needed"
                )
        return OnnxTableModel(graph, outputs, schema, "")
    name, shape = _input(graph, name, 2, "a table [event, column]")
    if isinstance(shape[1], int) and shape[1] != len(columns):
        raise ValueError(f"{name} takes {shape[1]} columns; the globals are {listed(columns)}")
    return OnnxTableModel(graph, outputs, schema, name)


def _image(graph: OnnxGraph, outputs: Any, schema: Schema, name: str | None) -> OnnxImageModel:
    layout = layout_of(schema).shape
    name, shape = _input(graph, name, 4, "images [event, channel, row, column]")
    last = (*layout[1:], layout[0])
    if not _matches(shape[1:], layout) and not _matches(shape[1:], last):
        raise ValueError(
            f"{name} takes images {as_text(shape[1:])}; those of the events have {image_size(layout)}"
        )
    return OnnxImageModel(graph, outputs, schema, name, not _matches(shape[1:], layout))


def _padded(
    graph: OnnxGraph,
    outputs: Any,
    schema: Schema,
    name: str | None,
    mask: str | None,
    features_first: bool | None,
) -> OnnxParticleModel:
    features = len(schema.features)
    if name is None:
        name = next((n for n, i in graph.inputs.items() if features in i.shape[1:]), None)
    name, shape = _input(graph, name, 3, "particles [event, particle, feature]")
    others = [n for n in graph.inputs if n != name]
    axes = [k for k in (1, 2) if shape[k] == features]
    axes = axes or [k for k in (1, 2) if not isinstance(shape[k], int)]
    if not axes or (features_first is not None and 2 - features_first not in axes):
        raise ValueError(
            f"{name} takes {as_text(shape[1:])}; particles have {features} features: "
            f"{listed(schema.features)}"
        )
    if features_first is None and len(axes) == 2:
        raise ValueError(
            f"{name} takes {as_text(shape[1:])}, which fits [particle, feature] and [feature, particle]; "
            "say features_first=False or True"
        )
    if (mask not in graph.inputs) if mask else len(others) > 1:
        raise ValueError(f"name the tensor of the mask, mask=…, among {listed(others)}")
    mask = mask or (others[0] if others else None)
    if mask and len(graph.inputs[mask].shape) not in (2, 3):
        raise ValueError(
            f"the mask {mask} has the shape {as_text(graph.inputs[mask].shape)}; [event, particle] is needed"
        )
    return OnnxParticleModel(graph, outputs, schema, name, mask, axes == [1] or bool(features_first))


def _input(graph: OnnxGraph, name: str | None, rank: int, what: str) -> tuple[str, list[Any]]:
    inputs = graph.inputs
    if not inputs:
        raise ValueError(f"the file has no input; {what} is needed")
    if name is None and len(inputs) > 1:
        raise ValueError(f"the file takes {listed(list(inputs))}; choose one, as input=…")
    name = next(iter(inputs)) if name is None else name
    if name not in inputs:
        raise ValueError(f"the file has no input {name!r}; it takes {listed(list(inputs))}")
    if len(inputs[name].shape) != rank:
        raise ValueError(f"the input {name} has the shape {as_text(inputs[name].shape)}; {what} is needed")
    return name, inputs[name].shape


def _matches(shape: list[Any], layout: tuple[int, ...]) -> bool:
    return all(not isinstance(s, int) or s == size for s, size in zip(shape, layout, strict=True))


def _cast(x: NDArray[Any], tensor: Any) -> NDArray[Any]:
    kinds = FLOATS | (MASKS if x.dtype == bool else {})
    if tensor.type not in kinds:
        raise ValueError(
            f"the input {tensor.name} takes {tensor.type}; the events hold real numbers (float32)"
        )
    return np.ascontiguousarray(x, dtype=kinds[tensor.type])
