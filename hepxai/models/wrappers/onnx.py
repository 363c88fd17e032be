"""Networks and trees in ONNX files, scored by onnxruntime."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from hepxai.core.chunks import image_rows
from hepxai.core.extras import import_extra
from hepxai.events import Events, Schema
from hepxai.models.schemas import (
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
from hepxai.models.wrappers.table import TableModel

Array = NDArray[np.float64]
ROWS = 16_384
"""Rows in a chunk."""
FLOATS = {"tensor(float)": np.float32, "tensor(double)": np.float64, "tensor(float16)": np.float16}
TINY = 1e-12
"""Probabilities are kept within [TINY, 1 - TINY]."""
PASSIVE = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast")
LOGITS = ("Softmax", "Sigmoid", "LogSoftmax")
"""Last nodes whose input are the logits."""
PROBABILITIES = ("ZipMap", "Normalizer", "TreeEnsembleClassifier", "LinearClassifier", "SVMClassifier")
"""Last nodes of classifiers that scikit-learn's converter writes."""


@dataclass(frozen=True)
class OnnxGraph:
    """A session of onnxruntime that gives the logits of batches.

    Attributes
    ----------
    session : onnxruntime.InferenceSession
    output : str
        Tensor that holds the scores: behind a last softmax or sigmoid, its input.
    probabilities : bool
        True if the scores are probabilities; their logarithms are taken.
    """

    session: Any
    output: str
    probabilities: bool

    def scores(self, feed: Mapping[str, NDArray[Any]], outputs: int) -> Array:
        """Logits ``[E, O]`` of named inputs, in chunks of the batch size that the file asks for."""
        size = len(next(iter(feed.values())))
        fixed = next(iter(self.inputs.values())).shape[:1]
        batch = fixed[0] if fixed and isinstance(fixed[0], int) else ROWS
        scores = [
            self._chunk({n: v[i : i + batch] for n, v in feed.items()}, batch if fixed[0] == batch else 0)
            for i in range(0, size, batch)
        ]
        return _as_outputs(np.concatenate(scores), outputs) if scores else np.zeros((0, outputs))

    @property
    def inputs(self) -> dict[str, Any]:
        """Inputs by name."""
        return {i.name: i for i in self.session.get_inputs()}

    def _chunk(self, feed: Mapping[str, NDArray[Any]], least: int) -> Array:
        rows = len(next(iter(feed.values())))
        whole = {n: np.resize(v, (max(least, rows), *v.shape[1:])) for n, v in feed.items()}
        try:
            (values,) = self.session.run([self.output], whole)
        except Exception as problem:  # onnxruntime has an exception for every code
            shapes = ", ".join(f"{n} {v.shape}" for n, v in whole.items())
            raise ValueError(f"the ONNX model failed on {shapes}: {str(problem).splitlines()[0]}") from None
        scores = np.asarray(values, dtype=np.float64)[:rows]
        if len(scores) != rows:
            raise ValueError(f"the ONNX model returned {scores.shape} for {rows} events")
        scores = scores.reshape(rows, -1)
        return _log_odds(scores) if self.probabilities else scores


def _log_odds(p: Array) -> Array:
    p = np.clip(p, TINY, 1 - TINY)
    return np.log(p / (1 - p)) if p.shape[1] == 1 else np.log(p)


def _as_outputs(scores: Array, outputs: int) -> Array:
    if scores.shape[1] == 2 and outputs == 1:
        return scores[:, 1:] - scores[:, :1]
    if scores.shape[1] != outputs:
        raise ValueError(f"the ONNX model returns {scores.shape[1]} scores, {outputs} outputs are named")
    return scores


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
        if self.input:
            return self.graph.scores({self.input: _cast(x, self.graph.inputs[self.input])}, len(self.outputs))
        columns = dict(zip(self.schema.globals, x.T, strict=True))
        feed = {n: _cast(columns[n][:, None], i) for n, i in self.graph.inputs.items()}
        return self.graph.scores(feed, len(self.outputs))


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
        scores = [self.score_image(events[r].image()) for r in rows]
        return need_scores(np.concatenate(scores), events) if scores else np.zeros((0, len(self.outputs)))

    def score_image(self, x: NDArray[np.float32]) -> Array:
        """Outputs ``[E, O]`` of images ``[E, T, R, C]``."""
        images = np.moveaxis(x, 1, -1) if self.channels_last else x
        return self.graph.scores(
            {self.input: _cast(images, self.graph.inputs[self.input])}, len(self.outputs)
        )


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
        inputs = self.graph.inputs
        maximum = inputs[self.input].shape[2 if self.features_first else 1]
        x, real = events.padded(maximum if isinstance(maximum, int) else None)
        feed = {self.input: _cast(x.swapaxes(1, 2) if self.features_first else x, inputs[self.input])}
        if self.mask:
            shape = (*real.shape, 1) if len(inputs[self.mask].shape) == 3 else real.shape
            shape = (len(real), 1, -1) if self.features_first and len(shape) == 3 else shape
            feed[self.mask] = _cast(real.reshape(shape), inputs[self.mask])
        return need_scores(self.graph.scores(feed, len(self.outputs)), events)


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
    gradients: bool = False,
) -> OnnxModel:
    """Model in an ONNX file.

    Scores are logits: a softmax or sigmoid at the end is left out. The probabilities of classifiers that
    scikit-learn's converter writes become log(p / (1 - p)) for two classes, log(p) for more; for these,
    explain differences of outputs. Of two outputs where one is named, the difference is taken.

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
        Names of tensors in the file, needed where it has several.
    gradients : bool
        Convert the file to a torch module, for methods that need gradients; onnx2torch must be installed, and
        the module must give the scores of the file.

    Raises
    ------
    ValueError
        If it is no ONNX file, its inputs do not fit the schema, or the conversion fails.
    MissingExtraError
        If onnx, onnxruntime or onnx2torch is not installed.
    """
    if view not in _MODELS:
        raise ValueError(f"view={view!r}; choose one of {', '.join(_MODELS)}")
    try:
        graph, content = _graph(Path(path).read_bytes(), output)
        model: Any = _MODELS[view](graph, outputs, schema, input, mask)
        return cast(OnnxModel, _as_torch(model, content) if gradients else model)
    except ValueError as problem:
        raise ValueError(f"{path}: {problem}") from None


# --- inputs ------------------------------------------------------------------------------------------


def _table(graph: OnnxGraph, outputs: Any, schema: Schema, name: str | None, mask: Any) -> OnnxTableModel:
    need_columns(schema)
    columns = schema.globals
    if name is None and len(graph.inputs) > 1 and set(graph.inputs) == set(columns):
        return OnnxTableModel(graph, outputs, schema, "")
    name, shape = _input(graph, name, 2, "a table [event, column]")
    if isinstance(shape[1], int) and shape[1] != len(columns):
        raise ValueError(f"{name} takes {shape[1]} columns; the globals are {listed(columns)}")
    return OnnxTableModel(graph, outputs, schema, name)


def _image(graph: OnnxGraph, outputs: Any, schema: Schema, name: str | None, mask: Any) -> OnnxImageModel:
    layout = layout_of(schema).shape
    name, shape = _input(graph, name, 4, "images [event, channel, row, column]")
    last = (*layout[1:], layout[0])
    if not _fits(shape[1:], layout) and not _fits(shape[1:], last):
        raise ValueError(f"{name} takes images {shape[1:]}; those of the events have {image_size(layout)}")
    return OnnxImageModel(graph, outputs, schema, name, not _fits(shape[1:], layout))


def _padded(
    graph: OnnxGraph, outputs: Any, schema: Schema, name: str | None, mask: str | None
) -> OnnxParticleModel:
    features, others = len(schema.features), [n for n in graph.inputs if n != name]
    if name is None:
        name = next((n for n, i in graph.inputs.items() if features in i.shape[1:]), None)
        others = [n for n in graph.inputs if n != name]
    name, shape = _input(graph, name, 3, "particles [event, particle, feature]")
    if features not in shape[1:] and all(isinstance(s, int) for s in shape[1:]):
        raise ValueError(
            f"{name} takes {shape[1:]}; particles have {features} features: {listed(schema.features)}"
        )
    if (mask not in graph.inputs) if mask else len(others) > 1:
        raise ValueError(f"name the tensor of the mask, mask=…, among {listed(others)}")
    mask = mask or (others[0] if others else None)
    return OnnxParticleModel(graph, outputs, schema, name, mask, shape[1] == features != shape[2])


_MODELS: dict[str, Any] = {"table": _table, "image": _image, "padded": _padded}


def _input(graph: OnnxGraph, name: str | None, rank: int, what: str) -> tuple[str, list[Any]]:
    inputs = graph.inputs
    if name is None and len(inputs) > 1:
        raise ValueError(f"the file takes {listed(list(inputs))}; choose one, as input=…")
    name = next(iter(inputs)) if name is None else name
    if name not in inputs:
        raise ValueError(f"the file has no input {name!r}; it takes {listed(list(inputs))}")
    if len(inputs[name].shape) != rank:
        raise ValueError(f"the input {name} has the shape {inputs[name].shape}; {what} is needed")
    return name, inputs[name].shape


def _fits(shape: list[Any], layout: tuple[int, ...]) -> bool:
    return all(not isinstance(s, int) or s == size for s, size in zip(shape, layout, strict=True))


def _cast(x: NDArray[Any], tensor: Any) -> NDArray[Any]:
    kinds = FLOATS | ({"tensor(bool)": np.bool_} if x.dtype == bool else {})
    if tensor.type not in kinds:
        raise ValueError(
            f"the input {tensor.name} takes {tensor.type}; the events hold real numbers (float32)"
        )
    return np.ascontiguousarray(x, dtype=kinds[tensor.type])


# --- the file -------------------------------------------------------------------------------------------


def _graph(data: bytes, output: str | None) -> tuple[OnnxGraph, Any]:
    """Session that stops before a last softmax or sigmoid, and the content of the file."""
    onnx = import_extra("onnx", "an ONNX file", "onnx")
    try:
        content = onnx.load_model_from_string(data)
    except Exception as problem:  # of protobuf
        raise ValueError(f"no ONNX model ({str(problem).splitlines()[0]})") from None
    names = [o.name for o in content.graph.output]
    if not names:
        raise ValueError("no ONNX model (it has no output)")
    if output is None and len(names) > 1:
        output = next((n for n in names if "prob" in n.lower()), None)
    if (output not in names) if output else len(names) > 1:
        raise ValueError(f"the file has the outputs {listed(names)}; choose one, as output=…")
    tensor, probabilities = _before_squashing(content.graph, output or names[0])
    del content.graph.output[:]
    content.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return OnnxGraph(_session(content.SerializeToString()), tensor, probabilities), content


def _session(data: bytes) -> Any:
    runtime = import_extra("onnxruntime", "an ONNX file", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has an exception for every code
        raise ValueError(f"onnxruntime cannot read it ({str(problem).splitlines()[0]})") from None


def _before_squashing(graph: Any, output: str) -> tuple[str, bool]:
    """Tensor with the scores, and whether they are probabilities."""
    makers = {name: node for node in graph.node for name in node.output}
    tensor = output
    while tensor in makers and makers[tensor].op_type in PASSIVE:
        tensor = makers[tensor].input[0]
    last = makers.get(tensor)
    if last is not None and last.op_type in LOGITS:
        return last.input[0], False
    if last is not None and last.op_type in PROBABILITIES:
        return (last.input[0] if last.op_type == "ZipMap" else tensor), True
    return output, False


def _as_torch(model: Any, content: Any) -> Any:
    """Torch module with the scores of the file, wrapped."""
    if model.view == "padded" or not model.input or model.graph.probabilities:
        raise ValueError("gradients=True works for networks of one input, on tables and images")
    converter = import_extra("onnx2torch", "gradients=True", None)
    try:
        module = converter.convert(content).eval()
    except Exception as problem:  # NotImplementedError of an operation, and others
        raise ValueError(f"onnx2torch cannot convert it ({str(problem).splitlines()[0]})") from None
    if model.view == "image":
        if model.channels_last:
            raise ValueError("gradients=True works for images with the channels first")
        wrapped: Any = ImageModel(module, model.outputs, model.schema)
        x = np.random.default_rng(0).random((4, *layout_of(model.schema).shape), dtype=np.float32)
        scores, own = wrapped.score_image(x), model.score_image(x)
    else:
        wrapped = TableModel(module, model.outputs, model.schema)
        x = np.random.default_rng(0).normal(size=(16, len(model.schema.globals))).astype(np.float32)
        scores, own = wrapped.score_table(x), model.score_table(x)
    if not np.allclose(scores, own, rtol=1e-3, atol=1e-4 * np.abs(own).max()):
        raise ValueError("the torch module that onnx2torch makes gives other scores than the file")
    return wrapped
