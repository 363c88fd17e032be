"""Weaver's data configs, networks and weights: equal scores, and a clear line for what is not supported."""

from __future__ import annotations

import pickle
import re
from collections.abc import Callable
from pathlib import Path

import awkward as ak
import numpy as np
import pytest
import torch
from jetclass import CLASSES, DATA, PARTICLE_NET, PARTICLE_TRANSFORMER, write_jets
from torch import nn

from hepxai.cards import CardError, dump_card
from hepxai.datasets import read
from hepxai.datasets.columns import ExpressionError
from hepxai.events import Events
from hepxai.explainers import explain
from hepxai.models.wrappers.weaver import Weaver, load_weights, network_of, read_weaver
from hepxai.models.wrappers.weaver_config import WeaverConfig
from hepxai.models.wrappers.weaver_expressions import translate

pytest.importorskip("weaver", reason="needs weaver-core")
NETWORKS = {"part": PARTICLE_TRANSFORMER, "particle_net": PARTICLE_NET}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of a training: jets, data config, two networks and their weights."""
    folder = tmp_path_factory.mktemp("weaver")
    write_jets(folder / "jets.root")
    (folder / "data.yaml").write_text(DATA)
    for name, text in NETWORKS.items():
        (folder / f"{name}.py").write_text(text)
        torch.manual_seed(3)
        network = network_of(folder / f"{name}.py", WeaverConfig.load(folder / "data.yaml"))
        for parameter in network.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        torch.save(network.state_dict(), folder / f"{name}.pt")
    return folder


def load(folder: Path, name: str, data: str = "data.yaml") -> Weaver:
    return read_weaver(folder / data, folder / f"{name}.py", folder / f"{name}.pt", [folder / "jets.root"])


@pytest.fixture(scope="module")
def part(folder: Path) -> Weaver:
    return load(folder, "part")


@pytest.fixture(scope="module")
def jets(part: Weaver) -> Events:
    return read(part.dataset).events


def scores_of_weaver(folder: Path, name: str, data: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Logits, labels and an observer by weaver's own loading of the data."""
    from torch.utils.data import DataLoader
    from weaver.utils.dataset import SimpleIterDataset

    settings = {"for_training": False, "fetch_step": 1.0, "async_load": False}
    jets = SimpleIterDataset(
        {"jets": [str(folder / "jets.root")]},
        str(folder / data),
        load_range_and_fraction=((0, 1), 1, 1),
        **settings,
    )
    network = network_of(folder / f"{name}.py", WeaverConfig.load(folder / data)).eval()
    network.load_state_dict(torch.load(folder / f"{name}.pt", weights_only=True))
    parts = []
    with torch.no_grad():
        for x, y, z in DataLoader(jets, batch_size=16):
            logits = network(*(x[n] for n in jets.config.input_names))
            parts.append((logits.numpy(), y["_label_"].numpy(), z["jet_pt"].numpy()))
    logits, label, pt = (np.concatenate(p) for p in zip(*parts, strict=True))
    return logits, label, pt


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("padding", ["wrap", "constant"])
def test_scores_are_those_of_weaver(folder: Path, name: str, padding: str) -> None:
    data = f"{padding}_{name}.yaml"
    (folder / data).write_text(DATA.replace("pad_mode: wrap", f"pad_mode: {padding}"))
    mine = load(folder, name, data)
    events = read(mine.dataset).events
    logits, label, pt = scores_of_weaver(folder, name, data)
    assert (events.counts == 12).any()  # more particles than slots
    assert len(events) < 60  # the selection
    np.testing.assert_array_equal(events.label, label)
    np.testing.assert_allclose(events.observers["jet_pt"], pt, rtol=1e-6)
    np.testing.assert_allclose(mine.model.logits(events), logits, rtol=0, atol=1e-5)
    assert logits.std() > 0.05


def test_a_network_without_mask_sees_the_padding_of_weaver(folder: Path) -> None:
    """Padded slots count in a plain mean: they have to hold what weaver puts there."""
    (folder / "mean.py").write_text(
        "from torch import nn\n"
        "class Mean(nn.Module):\n"
        "    def __init__(self, n):\n"
        "        super().__init__()\n"
        "        self.last = nn.Linear(n, 5)\n"
        "    def forward(self, points, features, vectors):\n"
        "        return self.last(features.mean(-1))\n"
        "def get_model(data_config, **kwargs):\n"
        "    return Mean(len(data_config.input_dicts['pf_features'])), {}\n"
    )
    torch.save(nn.Linear(9, 5).state_dict(), folder / "linear.pt")
    state = {f"last.{k}": v for k, v in torch.load(folder / "linear.pt", weights_only=True).items()}
    torch.save(state, folder / "mean.pt")
    without_mask = DATA[: DATA.index("   pf_mask:")] + DATA[DATA.index("labels:") :]
    for padding in ("wrap", "constant"):
        data = f"mean_{padding}.yaml"
        text = without_mask.replace("pad_mode: wrap", f"pad_mode: {padding}")
        (folder / data).write_text(text.replace("4.0]", "4.0, -1, 1, 0.5]"))
        mine = load(folder, "mean", data)
        logits, _, _ = scores_of_weaver(folder, "mean", data)
        np.testing.assert_allclose(mine.model.logits(read(mine.dataset).events), logits, rtol=0, atol=1e-5)


def test_card_and_names(part: Weaver, jets: Events) -> None:
    assert jets.schema.classes == part.model.outputs == ("QCD", "Hbb", "Hcc", "Tbqq", "Wqq")
    assert jets.schema.features[:4] == ("part_deta", "part_dphi", "part_pt_log", "part_e_log")
    assert set(jets.observers) == {"jet_pt", "jet_eta"}
    assert "hypot(part_px, part_py)" in dump_card(part.dataset)
    assert (jets.weight == 1).all()


@pytest.mark.parametrize("layer", ["blocks.0.attn", "blocks.1.attn", "pair_embed"])
def test_edge_ig(part: Weaver, jets: Events, layer: str) -> None:
    attribution = explain(
        part.model, jets[:4], "edge_ig", layer=f"network.mod.{layer}", target="Hbb-QCD", steps=12
    )
    assert attribution.checks["median_residual"] < 0.02
    assert np.abs(attribution.values).max() > 0.01
    assert np.abs(attribution.self_values).max() > 1e-3


def test_attention_is_that_of_the_query_and_key(part: Weaver, jets: Events) -> None:
    """Slow reference: the softmax by hand, from the input of the first attention layer of each jet alone."""
    with pytest.warns(UserWarning, match=r"cls_blocks.0.attn attends from class tokens only"):
        attribution = explain(part.model, jets[:6], "attention", target="Hbb-QCD")
    network = part.model.module.network.mod.eval()
    layer, inputs = network.blocks[0].attn, []
    hook = layer.register_forward_pre_hook(lambda *a: inputs.append((a[1], a[2])), with_kwargs=True)
    part.model.logits(jets[[3]])
    hook.remove()
    (query, *_), named = inputs[0]
    n = int(jets.counts[3])
    with torch.no_grad():
        q, k, _ = layer.in_proj(query[0, :n]).chunk(3, dim=-1)
        q, k = (x.unflatten(-1, (2, -1)).transpose(0, 1) for x in (q, k))
        weights = ((q @ k.transpose(1, 2)) / 8**0.5 + named["attn_mask"][0, :, :n, :n]).softmax(-1)
    one = attribution[[3]]
    receiver, sender = one.pairs.dst, one.pairs.src
    np.testing.assert_allclose(one.values[:, 0], weights[:, receiver, sender].T, atol=1e-5)
    np.testing.assert_allclose(one.self_values[:, 0], weights.diagonal(dim1=1, dim2=2).T, atol=1e-5)


def test_node_ig_keeps_pair_features_and_neighbours(part: Weaver, jets: Events) -> None:
    attribution = explain(part.model, jets[:4], "node_ig", baseline="zero", target="Hbb-QCD")
    assert attribution.checks["median_residual"] < 0.01
    only_in_vectors = attribution.values[:, jets.schema.column("part_px")]
    np.testing.assert_array_equal(only_in_vectors, 0)


# --- expressions -------------------------------------------------------------------------------------


VARIABLES = {"pt": "np.hypot(px, py)", "mask": "ak.ones_like(px)", "a": "b + 1", "b": "a"}


@pytest.mark.parametrize(
    "text",
    [
        "np.log(pt) / 3",
        "np.where((px > 0) & ~(py > 1), px, -py)",
        "ak.sum(pt, axis=1)",
        "ak.num(px, 1) + np.pi",
        "np.minimum(np.nan_to_num(px), 1) ** 2",
        "np.square(px) * np.power(py, 2) + mask",
        "ak.max(np.abs(px), axis=-1)",
    ],
)
def test_expressions_have_the_value_of_python(text: str) -> None:
    from hepxai.datasets.evaluation import evaluate

    columns = {n: ak.Array([[0.5, -2.0], [1.5], [3.0, 0.1, -0.2]]) for n in ("px", "py")}

    class Lookup:
        __call__ = in_file = staticmethod(columns.__getitem__)

    pt, mask = np.hypot(columns["px"], columns["py"]), ak.ones_like(columns["px"])
    expected = eval(text, {"np": np, "ak": ak, "pt": pt, "mask": mask, **columns})
    found = evaluate(translate(text, VARIABLES), Lookup())
    np.testing.assert_allclose(ak.flatten(found, axis=None), ak.flatten(expected, axis=None), rtol=1e-6)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("__import__('os').system('true')", "__import__"),
        ("(lambda: 1)()", "lambda"),
        ("px.__class__", "px.__class__"),
        ("np.load('x.npy')", "np.load"),
        ("np.random.rand(3)", "np.random"),
        ("open('x')", "open"),
        ("[i for i in px]", "is not allowed"),
        ("ak.sum(px, axis=0)", "axis=0"),
        ("px[:, 0]", "is not allowed"),
        ("np", "'np' is free Python"),
        ("px +", "syntax not understood"),
        ("a", "a -> b -> a"),
        ("np.where(px > 0, px, 0, 3)", "takes 3"),
    ],
)
def test_free_python_is_refused(text: str, part: str) -> None:
    with pytest.raises(ExpressionError, match=re.escape(part)):
        translate(text, VARIABLES)


def test_doubling_variables_are_refused() -> None:
    doubling = {f"v{i}": f"v{i + 1} + v{i + 1}" for i in range(40)}
    with pytest.raises(ExpressionError, match="more than 1000 variables"):
        translate("v0", doubling)


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("np.tanh(part_d0val)", "part_d0val.tolist()", r":10: new_variables.part_d0: .* is free Python"),
        ("np.log(part_pt/jet_pt)", "__import__('os')", r":8: new_variables.part_logptrel: .*__import__"),
        (
            "selection: (jet_pt > 400) & (np.abs(jet_eta) < 2)",
            "selection: '(lambda: True)()'",
            r":2: selection: .*lambda",
        ),
        ("ak.ones_like(part_energy)", "part_pt > 1", r":46: .* has to be 1 for every particle"),
        ("[part_e_log, 2.0, 0.7]", "[part_e_log, two]", r":26: .* write a name, or \[name, subtract_by"),
        (
            "      length: 12\n      pad_mode: constant",
            "      length: 9",
            r":14: inputs: .* differ in length",
        ),
        ("pad_mode: constant", "pad_mode: edge", r"pad_mode: found 'edge'; choose constant or wrap"),
        ("method: manual", "method: auto", r"automatic standardisation of 'part_isElectron' .*auto.yaml"),
        ("observers:", "observer:", r"observer: unknown key \(did you mean 'observers'"),
        ("treename: tree", "treename: tree\nbranch_magic: {a: b}", r":2: branch_magic: is not supported"),
        ("[part_e_log, 2.0, 0.7]", "[part_e_log, null, null]", r":26: .* and null for the first only"),
        ("[part_e_log, 2.0, 0.7]", "[part_e_log, auto, x]", r":26: .*automatic standardisation"),
        ("[part_e_log, 2.0, 0.7]", "[jet_pt, 2.0, 0.7]", r":26: .*'jet_pt' has one value per event"),
        ("[part_e_log, 2.0, 0.7]", "[part_ee, 2.0, 0.7]", r":26: .*no branch or variable 'part_ee'"),
        (
            "part_d0: np.tanh(part_d0val)",
            "part_d0: ak.sum(part_d0val, axis=1)",
            r":31: .*'part_d0' has one value per event",
        ),
        (
            "  data_fraction: 0.5",
            "  params: {part_deta: {center: 0.5, scale: null}}",
            r":13: preprocess.params.part_deta: .* and null for center only",
        ),
        ("part_d0, null", "pt, null", r"'pt' is computed from the momenta; rename it"),
        ("type: simple", "type: custom", r"type: custom needs a mapping"),
    ],
)
def test_config_is_refused_by_line(folder: Path, old: str, new: str, message: str) -> None:
    path = folder / "bad.yaml"
    path.write_text(DATA.replace(old, new, 1))
    with pytest.raises(CardError, match=f"bad.yaml.*{message}"):
        WeaverConfig.load(path).dataset([folder / "jets.root"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "import a_library_nobody_has\n",
            r"net.py:1: import failed with ModuleNotFoundError: .*a_library_nobody_has",
        ),
        ("x = 1\nx +\n", r"net.py:2: import failed with SyntaxError"),
        (
            "def get_model(c):\n    return c.nothing\n",
            r"net.py:2: get_model\(data_config\) failed with AttributeError: .*nothing",
        ),
        ("x = 1\n", r"net.py has no function get_model\(data_config\)"),
        ("def get_model(c):\n    return 3, {}\n", r"get_model returns int; a torch module is needed"),
    ],
)
def test_network_file_is_refused_by_line(folder: Path, text: str, message: str) -> None:
    (folder / "net.py").write_text(text)
    with pytest.raises(ValueError, match=message):
        network_of(folder / "net.py", WeaverConfig.load(folder / "data.yaml"))


class Harmless:
    """A class that a pickle would import."""


@pytest.mark.parametrize(
    ("save", "message"),
    [
        (lambda f, n: f.write_bytes(pickle.dumps(Harmless())), "no weights .*torch.save\\(model.state_dict"),
        (lambda f, n: torch.save(n, f), "a pickled model is not loaded"),
        (lambda f, n: torch.save([1, 2], f), "no state dict"),
        (
            lambda f, n: torch.save({"one": torch.ones(1)}, f),
            r"lack 0.weight, 0.bias, 1.weight and 1 more and have beside one",
        ),
        (
            lambda f, n: torch.save(n.state_dict() | {"0.bias": torch.ones(7)}, f),
            r"0.bias has the shape \[7\], the network \[4\]",
        ),
    ],
)
def test_weights_are_refused(tmp_path: Path, save: Callable[[Path, nn.Module], None], message: str) -> None:
    network = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    save(tmp_path / "weights.pt", network)
    with pytest.raises(ValueError, match=message):
        load_weights(network, tmp_path / "weights.pt")
    torch.save(network.state_dict(), tmp_path / "weights.pt")  # the remedy
    load_weights(network, tmp_path / "weights.pt")


def test_automatic_standardisation_beside_the_config(folder: Path) -> None:
    """Weaver writes the numbers into a second file, named after the hash of the first."""
    from hashlib import md5

    import yaml

    first = folder / "auto.yaml"
    first.write_text(DATA.replace("method: manual", "method: auto"))
    content = yaml.safe_load(first.read_text())
    names = {v[0] if isinstance(v, list) else v for i in content["inputs"].values() for v in i["vars"]}
    one = {"length": 12, "pad_mode": "wrap", "center": 0.5, "scale": 2.0, "min": -5, "max": 5, "pad_value": 0}
    content["preprocess"]["params"] = {n: one | {"center": None if n == "part_mask" else 0.5} for n in names}
    digest = md5(first.read_bytes()).hexdigest()
    (folder / f"auto.{digest}.auto.yaml").write_text(yaml.safe_dump(content, sort_keys=False))
    config = WeaverConfig.load(first)
    assert config.groups[1].variables[5].center == 0.5
    assert config.dataset([folder / "jets.root"]).name == "auto"
    assert len(CLASSES) == len(config.outputs)
