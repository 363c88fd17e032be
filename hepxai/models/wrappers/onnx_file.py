"""ONNX files: the session of onnxruntime, its scores as logits, and the conversion to torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hepxai.core.extras import import_extra
from hepxai.models.schemas import layout_of, listed
from hepxai.models.wrappers.image import ImageModel
from hepxai.models.wrappers.table import TableModel

Array = NDArray[np.float64]
ROWS = 16_384
"""Rows in a chunk."""
TINY = 1e-12
"""Probabilities are kept within [TINY, 1 - TINY]."""
ROUNDING = {"tensor(float16)": 1e-2}
"""Absolute tolerance of probabilities and their sum, by type; else 1e-4, for sums over many trees."""
RESHAPING = ("Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "Cast")
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

    @property
    def inputs(self) -> dict[str, Any]:
        """Inputs by name."""
        return {i.name: i for i in self.session.get_inputs()}

    @property
    def batch(self) -> int | None:
        """Fixed number of events, or None."""
        sizes = (i.shape[0] for i in self.inputs.values() if i.shape)
        return next((size for size in sizes if isinstance(size, int)), None)

    def values(self, feed: Mapping[str, NDArray[Any]]) -> Array:
        """Values ``[E, K]`` of the output for named inputs, in chunks of the file's batch size."""
        size, rows = len(next(iter(feed.values()))), self.batch or ROWS
        parts = [self._chunk({n: v[i : i + rows] for n, v in feed.items()}) for i in range(0, size, rows)]
        return np.concatenate(parts) if parts else np.zeros((0, 0))

    def _chunk(self, feed: Mapping[str, NDArray[Any]]) -> Array:
        rows = len(next(iter(feed.values())))
        batch = {n: np.resize(v, (self.batch or rows, *v.shape[1:])) for n, v in feed.items()}
        try:
            (values,) = self.session.run([self.output], batch)
        except Exception as problem:  # onnxruntime has an exception for every code
            shapes = ", ".join(f"{n} {v.shape}" for n, v in batch.items())
            raise ValueError(f"the ONNX model failed on {shapes}: {str(problem).splitlines()[0]}") from None
        values = np.asarray(values, dtype=np.float64)[:rows]
        if len(values) != rows:
            raise ValueError(f"the ONNX model returned {values.shape} for {rows} events")
        return values.reshape(rows, -1)

    def are_probabilities(self, values: Array) -> bool:
        """True if the finite rows are between 0 and 1, and several columns add up to 1."""
        rows = values[np.isfinite(values).all(axis=1)]
        rounding = ROUNDING.get(self.session.get_outputs()[0].type, 1e-4)
        inside = (rows >= -rounding) & (rows <= 1 + rounding)
        sums = rows.shape[1] == 1 or np.abs(rows.sum(1) - 1) <= rounding
        return bool(len(rows) and inside.all() and np.all(sums))

    def logits(self, values: Array, outputs: int) -> Array:
        """Logits ``[E, O]`` of all events from the values; of two where one is named, the difference."""
        if not len(values):
            return np.zeros((0, outputs))
        if np.isfinite(values).all(axis=1).any():
            probable = self.are_probabilities(values)
            if self.probabilities and not probable:
                raise ValueError(
                    "the scores of this classifier are no probabilities; name their tensor with "
                    f"output={self.output!r}"
                )
            if probable and not self.probabilities and values.shape[1] == 2 and outputs == 1:
                raise ValueError(
                    f"the two scores {self.output} add up to 1 as probabilities do, and their difference is "
                    "no logit; name the tensor of the logits, as output=…"
                )
        if self.probabilities:
            p = np.clip(values, TINY, 1 - TINY)
            values = np.log(p / (1 - p)) if p.shape[1] == 1 else np.log(p)
        if values.shape[1] == 2 and outputs == 1:
            return values[:, 1:] - values[:, :1]
        if values.shape[1] != outputs:
            raise ValueError(f"the ONNX model returns {values.shape[1]} scores, {outputs} outputs are named")
        return values


def read_graph(path: Path, output: str | None) -> tuple[OnnxGraph, Any]:
    """Session that stops before a last softmax or sigmoid, and the content of the file."""
    onnx = import_extra("onnx", "an ONNX file", "onnx")
    try:
        content = onnx.load_model_from_string(path.read_bytes())
    except Exception as problem:  # of protobuf
        raise ValueError(f"no ONNX model ({str(problem).splitlines()[0]})") from None
    try:  # refuses weights in another folder
        onnx.load_external_data_for_model(content, str(path.resolve().parent))
    except Exception as problem:
        raise ValueError(f"its weights cannot be read ({str(problem).splitlines()[0]})") from None
    names = [o.name for o in content.graph.output]
    if not names:
        raise ValueError("no ONNX model (it has no output)")
    if output is None and len(names) > 1:
        output = next((n for n in names if "prob" in n.lower()), None)
    tensors = {*names, *(n for node in content.graph.node for n in node.output)}
    if (output not in tensors) if output else len(names) > 1:
        raise ValueError(f"the file has the outputs {listed(names)}; choose one, as output=…")
    tensor, probabilities = _score_tensor(content.graph, output or names[0])
    del content.graph.output[:]
    content.graph.output.append(onnx.ValueInfoProto(name=tensor))
    return OnnxGraph(_session(content.SerializeToString()), tensor, probabilities), content


def input_shapes(path: Path) -> dict[str, str]:
    """Type and shape of each input of a file by its name, as in ``float [event, 10]``."""
    inputs = _session(path.read_bytes()).get_inputs()
    return {i.name: f"{i.type.removeprefix('tensor(').removesuffix(')')} {as_text(i.shape)}" for i in inputs}


def as_text(shape: Sequence[int | str | None]) -> str:
    """Shape as text, as in ``[event, 10]``."""
    return f"[{', '.join(map(str, shape))}]"


def _session(data: bytes) -> Any:
    runtime = import_extra("onnxruntime", "an ONNX file", "onnx")
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    try:
        return runtime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception as problem:  # onnxruntime has an exception for every code
        raise ValueError(f"onnxruntime cannot read it ({str(problem).splitlines()[0]})") from None


def _score_tensor(graph: Any, output: str) -> tuple[str, bool]:
    """Tensor with the scores, and whether a classifier gives them as probabilities."""
    makers = {name: node for node in graph.node for name in node.output}
    tensor = output
    while tensor in makers and makers[tensor].op_type in RESHAPING:
        tensor = makers[tensor].input[0]
    last = makers.get(tensor)
    if last is not None and last.op_type in LOGITS:
        return last.input[0], False
    if last is not None and last.op_type in PROBABILITIES:
        return (last.input[0] if last.op_type == "ZipMap" else tensor), True
    return output, False


def as_torch(model: Any, content: Any) -> Any:
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
        scores, expected = wrapped.score_image(x), model.score_image(x)
    else:
        wrapped = TableModel(module, model.outputs, model.schema)
        x = np.random.default_rng(0).normal(size=(16, len(model.schema.globals))).astype(np.float32)
        scores, expected = wrapped.score_table(x), model.score_table(x)
    if not np.allclose(scores, expected, rtol=1e-3, atol=1e-4 * np.abs(expected).max()):
        raise ValueError("the converted module does not reproduce the scores of the file")
    return wrapped
