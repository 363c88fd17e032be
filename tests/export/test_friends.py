"""Friend trees read back with uproot, against what a loop over the events expects."""

from __future__ import annotations

import errno
import json
import os
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uproot
from scipy.special import expit, softmax
from uproot.sink.file import FileSink

from hepxai.attribution import Attribution
from hepxai.core.files import DiskFullError
from hepxai.export import friends
from hepxai.export.friends import write_friends
from hepxai.export.rootspec import friend_names, literal, macro, seen_from, split_tree


@pytest.fixture(scope="module")
def written(nano, explain, tmp_path_factory):
    """Friends of everything: attention of all events, the rest of parts of them in other orders."""
    folder, events = tmp_path_factory.mktemp("friends"), nano.events
    some = np.flatnonzero(events.label == 1)[::-1]
    made = [
        explain["attention"](events),
        explain["edge_ig"](events)[some],
        explain["node_ig"](events[some[::2]]),
        explain["node_ig"](events).sum("particle").replace(method="whole"),
    ]
    scores = np.random.default_rng(4).normal(size=len(events))
    paths = write_friends(folder, events, made, scores=scores)
    trees = [uproot.open(path)["hepxai"] for path in paths]
    return paths, trees, made, scores


def rows(trees, events):
    """(tree, entry, event or None) of every entry of every file."""
    at = {(f, e): i for i, (f, e) in enumerate(zip(events.file, events.entry, strict=True))}
    for number, tree in enumerate(trees):
        for entry, row in enumerate(tree.arrays().to_list()):
            yield row, at.get((number, entry))


def test_every_input_has_a_friend_of_its_length(nano, written):
    paths, trees, *_ = written
    assert [p.name for p in paths] == ["000_nano.root", "001_empty.root", "002_nano.root"]
    assert [t.num_entries for t in trees] == list(nano.events.file_entries)
    assert all(uproot.open(p).classnames() == {"hepxai;1": "TTree"} for p in paths)


def test_branches_are_what_root_can_read_as_a_friend(written):
    tree = written[1][0]
    types = {"bool", "int32_t", "int64_t", "float", "double", "int32_t[]", "float[]"}
    assert {b.typename for b in tree.branches} <= types
    assert all(b.name.startswith(("hepxai_", "nhepxai_")) for b in tree.branches)
    counters = [b.name for b in tree.branches if b.name.startswith("n")]
    assert counters == ["nhepxai_attention", "nhepxai_edge_ig", "nhepxai_particle"]


def test_scalars_stand_beside_their_events(nano, written):
    _, trees, _, scores = written
    events = nano.events
    for row, event in rows(trees, events):
        assert row["hepxai_selected"] == (event is not None)
        for branch, column in (("run", "run"), ("luminosityBlock", "luminosity_block"), ("event", "event")):
            assert row[f"hepxai_{branch}"] == (-1 if event is None else getattr(events, column)[event])
        assert row["hepxai_split"] == (-1 if event is None else events.split[event])
        assert row["hepxai_label"] == (-1 if event is None else events.label[event])
        assert row["hepxai_weight"] == (0 if event is None else events.weight[event])
        assert row["hepxai_score"] == pytest.approx(-999 if event is None else scores[event])
        assert row["hepxai_probability"] == pytest.approx(-999 if event is None else expit(scores[event]))


def own(attribution, events, event):
    """Position in the attribution of an event of the population."""
    if event is None:
        return None
    asked = (events.file[event], events.entry[event])
    keys = zip(attribution.events.file, attribution.events.entry, strict=True)
    return next((i for i, key in enumerate(keys) if key == asked), None)


def test_residuals_and_values_of_events(nano, written):
    _, trees, made, _ = written
    for row, event in rows(trees, nano.events):
        i = own(made[1], nano.events, event)
        assert row["hepxai_edge_ig_explained"] == (i is not None)
        assert row["hepxai_edge_ig_residual"] == pytest.approx(-999 if i is None else made[1].residual[i])
        assert row["hepxai_edge_ig_output_change"] == pytest.approx(
            -999 if i is None else made[1].output_change[i]
        )
        for k, feature in enumerate(("pt", "charge")):
            expected = -999 if event is None else made[3].values[event, k]
            assert row[f"hepxai_whole_{feature}"] == pytest.approx(expected)


def test_particles_point_into_their_collections(nano, written):
    _, trees, made, _ = written
    events = nano.events
    for row, event in rows(trees, events):
        types = row["hepxai_particle_type"]
        if event is None:
            assert types == row["hepxai_particle_index"] == row["hepxai_particle_node_ig_pt"] == []
            continue
        flat = slice(events.offsets[event], events.offsets[event + 1])
        collisions = nano.content[events.file[event]][events.entry[event]]
        for t, index, pt in zip(types, row["hepxai_particle_index"], events.p4[flat, 0], strict=True):
            collection = events.schema.collections[t]
            assert (index == -1) == (collection == "MET")
            assert collection == "MET" or collisions[collection][index, 0] == pt
        i = own(made[2], events, event)
        for k, feature in enumerate(("pt", "charge")):
            expected = np.full(len(types), -999.0)
            if i is not None:
                expected = made[2].values[made[2].events.offsets[i] : made[2].events.offsets[i + 1], k]
            assert row[f"hepxai_particle_node_ig_{feature}"] == pytest.approx(expected)


PAIR_VALUES = [
    (0, "attention", "value_conv_1_head1", (0, 1)),
    (0, "attention", "value_conv_2_head0", (1, 0)),
    (1, "edge_ig", "value", ()),
]


@pytest.mark.parametrize(("which", "method", "column", "element"), PAIR_VALUES)
def test_pairs_carry_both_ends(nano, written, which, method, column, element):
    _, trees, made, _ = written
    attribution = made[which]
    part = attribution.events
    for row, event in rows(trees, nano.events):
        i = own(attribution, nano.events, event)
        columns = [row[f"hepxai_{method}_{f}"] for f in ("src_type", "src", "dst_type", "dst", column)]
        if i is None:
            assert columns == [[]] * 5
            continue
        flat = range(attribution.offsets[i], attribution.offsets[i + 1])
        for p, *found, value in zip(flat, *columns, strict=True):
            ends = attribution.pairs.src[p], attribution.pairs.dst[p]
            assert found == [n for end in ends for n in (part.type[end], part.index[end])]
            assert value == pytest.approx(attribution.values[(p, *element)])
        for end in ("src", "dst"):
            places = row[f"hepxai_{method}_{end}_particle"]
            assert [row["hepxai_particle_index"][p] for p in places] == row[f"hepxai_{method}_{end}"]


def test_the_title_explains_the_codes(written):
    title = "type 0=electron 1=muon 2=jet 3=met; label 0=background 1=signal; split 0=train 1=valid 2=test"
    assert [t.title for t in written[1]] == [title] * 3


def test_the_title_names_a_poor_surrogate(nano, explain, tmp_path: Path):
    good = explain["edge_ig"](nano.events).replace(concerns=())
    poor = explain["attention"](nano.events).replace(
        method="surrogate", concerns=("surrogate below stated fidelity",)
    )
    paths = write_friends(tmp_path, nano.events, iter([good, poor]))
    for path in paths:
        title = uproot.open(path)["hepxai"].title
        assert title.startswith("surrogate: surrogate below stated fidelity; type 0=electron")
        assert "edge_ig" not in title


def test_self_loops_are_written_beside_their_particles(nano, explain, tmp_path: Path):
    """By entry and particle, of a part of the events in another order."""
    events = nano.events
    loops = np.random.default_rng(8).normal(size=events.n_particles).astype("f4")
    looped = explain["edge_ig"](events).replace(self_values=loops)[np.arange(0, len(events), 2)[::-1]]
    paths = write_friends(tmp_path, events, [looped])
    written = {}
    for number, path in enumerate(paths):
        lists = uproot.open(path)["hepxai"]["hepxai_particle_edge_ig_self"].array().to_list()
        written |= {(number, entry): row for entry, row in enumerate(lists)}
    for e in range(0, len(events), 2):
        expected = loops[events.offsets[e] : events.offsets[e + 1]]
        np.testing.assert_array_equal(written[events.file[e], events.entry[e]], expected)


def test_small_chunks_write_the_same(nano, explain, tmp_path: Path, monkeypatch):
    made = [explain["attention"](nano.events), explain["node_ig"](nano.events)]
    whole = write_friends(tmp_path / "whole", nano.events, made)
    monkeypatch.setattr(friends, "_CHUNK", 100)
    parts = write_friends(tmp_path / "parts", nano.events, made)
    for a, b in zip(whole, parts, strict=True):
        assert uproot.open(a)["hepxai"].arrays().to_list() == uproot.open(b)["hepxai"].arrays().to_list()
    clusters = [uproot.open(p[0])["hepxai/hepxai_split"].num_baskets for p in (whole, parts)]
    assert clusters[0] == 1
    assert 10 < clusters[1] <= 70


def test_a_selection_writes_what_it_kept(nano, explain, tmp_path: Path):
    events = nano.events
    muons = explain["node_ig"](events).select(particle="muon")
    pairs = explain["edge_ig"](events).select(pair=("muon", "muon"))
    paths = write_friends(tmp_path, events, [muons, pairs])
    for row, event in rows([uproot.open(p)["hepxai"] for p in paths], events):
        values = zip(row["hepxai_particle_type"], row["hepxai_particle_node_ig_pt"], strict=True)
        assert all((v == -999) == (t != 1) for t, v in values)
        n = row["hepxai_particle_type"].count(1)
        assert row["hepxai_edge_ig_src_type"] == row["hepxai_edge_ig_dst_type"] == [1] * (n * (n - 1))
        assert event is not None or n == 0


def test_a_population_without_events_has_only_sentinels(nano, explain, tmp_path: Path):
    nothing = nano.events[:0]
    paths = write_friends(tmp_path, nothing, [explain["attention"](nothing)], scores=np.zeros(0))
    tree = uproot.open(paths[0])["hepxai"]
    assert tree.num_entries == 70
    assert not tree["hepxai_selected"].array().to_numpy().any()
    assert set(tree["hepxai_score"].array()) == {-999}


# --- scores --------------------------------------------------------------------------------------


def first_file(paths, events, name):
    order = np.argsort(np.where(events.file == 0, events.entry, 1 << 40))[: np.sum(events.file == 0)]
    tree = uproot.open(paths[0])["hepxai"]
    return tree[name].array().to_numpy()[tree["hepxai_selected"].array().to_numpy()], order


def test_one_logit_per_class(nano, tmp_path: Path):
    logits = np.random.default_rng(0).normal(size=(len(nano.events), 2))
    paths = write_friends(tmp_path, nano.events, scores=logits)
    for k, name in enumerate(("background", "signal")):
        score, order = first_file(paths, nano.events, f"hepxai_score_{name}")
        np.testing.assert_allclose(score, logits[order, k], rtol=1e-6)
        probability, _ = first_file(paths, nano.events, f"hepxai_probability_{name}")
        np.testing.assert_allclose(probability, softmax(logits, axis=1)[order, k], rtol=1e-6)


def test_a_regression_has_no_probability(nano, tmp_path: Path):
    events = nano.events.replace(schema=replace(nano.events.schema, classes=()))
    paths = write_friends(tmp_path, events, scores=np.ones((len(events), 2)))
    names = uproot.open(paths[0])["hepxai"].keys()
    scores = [n for n in names if "score" in n or "probability" in n]
    assert scores == ["hepxai_score_output0", "hepxai_score_output1"]


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["000_nano.root", "friends.json", "friends.C"])
def test_what_is_there_is_not_overwritten(nano, tmp_path: Path, name):
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"{name} exists already"):
        write_friends(tmp_path, nano.events)
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [(name, "mine")]
    write_friends(tmp_path, nano.events, overwrite=True)
    assert len(list(tmp_path.iterdir())) == 5


@pytest.mark.parametrize("allowed", [0, 1, 40])
def test_a_full_disk_leaves_nothing(nano, tmp_path: Path, monkeypatch, allowed):
    write, calls = FileSink.write, iter(range(10_000))

    def full(self: FileSink, *args: object) -> int:
        if next(calls) >= allowed:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *args)

    monkeypatch.setattr(FileSink, "write", full)
    with pytest.raises(DiskFullError, match=r"disk full, nothing was written: '.*\.root'"):
        write_friends(tmp_path, nano.events)
    assert not list(tmp_path.iterdir())


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@pytest.mark.parametrize("name", ["friends.json", "friends.C"])
@pytest.mark.parametrize("earlier", [False, True])
def test_a_full_disk_keeps_the_earlier_friends(nano, tmp_path: Path, monkeypatch, name, earlier):
    if earlier:
        write_friends(tmp_path, nano.events)
    before, write = contents(tmp_path), Path.write_text

    def full(self: Path, *args: Any, **kwargs: Any) -> int:
        if self.name.startswith(name):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(self, *args, **kwargs)

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFullError, match=rf"nothing was written: '.*{name}'"):
        write_friends(tmp_path, nano.events, scores=np.zeros(len(nano.events)), overwrite=True)
    assert contents(tmp_path) == before


@pytest.mark.parametrize("number", range(5))
@pytest.mark.parametrize("earlier", ["nothing", "linked", "copied"])
def test_a_failing_rename_keeps_the_earlier_friends(nano, tmp_path: Path, monkeypatch, number, earlier):
    def unsupported(*_: object) -> None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    if earlier != "nothing":
        write_friends(tmp_path, nano.events)
    if earlier == "copied":
        monkeypatch.setattr(Path, "hardlink_to", unsupported)
    before, rename, calls = contents(tmp_path), Path.replace, iter(range(100))

    def failing(self: Path, target: Path) -> Path:
        if self.suffix == ".part" and next(calls) == number:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return rename(self, target)

    monkeypatch.setattr(Path, "replace", failing)
    with pytest.raises(PermissionError):
        write_friends(tmp_path, nano.events, scores=np.zeros(len(nano.events)), overwrite=True)
    assert contents(tmp_path) == before


def test_nothing_stays_beside_the_friends(nano, tmp_path: Path):
    for _ in range(2):
        write_friends(tmp_path, nano.events, overwrite=True)
    assert {p.suffix for p in tmp_path.iterdir()} == {".root", ".json", ".C"}


def _twice(events):
    return events.replace(entry=np.where(events.file == 0, events.entry[events.file == 0][0], events.entry))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (_twice, r"entry \d+ is claimed by two events of .*z/nano\.root:Events"),
        (lambda e: e.replace(entry=e.entry + 60), r"entry \d+ is outside .*nano\.root"),
        (lambda e: e.replace(file=e.file + 2), "file holds 4 "),
        (lambda e: e.replace(files=("a.root", *e.files[1:])), "'a.root' names no tree; write path:tree"),
    ],
)
def test_events_that_fit_no_entry_are_refused(nano, tmp_path: Path, change, message):
    with pytest.raises(ValueError, match=message):
        write_friends(tmp_path, change(nano.events))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (
            lambda x, e: [x(e), x(e)],
            "branch hepxai_attention_explained is asked for twice; rename one method",
        ),
        (lambda x, e: [x(e.replace(files=e.files[::-1]))], "other files"),
        (lambda x, e: [x(e.replace(entry=e.entry + 1))], r"attention explains \d+ events that are not among"),
        (lambda x, e: [x(e.replace(type=3 - e.type))], "other particles"),
        (lambda x, e: [x(e, "particle")], "asked for twice"),
    ],
)
def test_attributions_of_something_else_are_refused(nano, explain, tmp_path: Path, made, message):
    with pytest.raises(ValueError, match=message):
        write_friends(tmp_path, nano.events, made(explain["attention"], nano.events))


def test_too_many_values_ask_for_a_sum(nano, explain, tmp_path: Path):
    whole = explain["node_ig"](nano.events)
    wide = whole.replace(values=np.zeros((len(whole.values), 300)), axes=("particle", "neuron"), labels={})
    with pytest.raises(ValueError, match="300 values per particle; a friend tree takes 256: sum over neuron"):
        write_friends(tmp_path, nano.events, [wide])


def test_scores_of_other_events_are_refused(nano, tmp_path: Path):
    with pytest.raises(ValueError, match="3 scores for"):
        write_friends(tmp_path, nano.events, scores=np.zeros(3))


# --- the way back to the inputs ------------------------------------------------------------------


def test_inputs_are_named_from_the_folder_of_the_friends_and_urls_as_they_are(monkeypatch, tmp_path: Path):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "deep" / "er")  # whose .. is deep
    for folder, up in (("run/friends", "../.."), ("link", "../..")):
        assert seen_from(Path(folder), "data/a.root:Events") == (f"{up}/data/a.root", "Events")
    assert seen_from(tmp_path / "run", f"{tmp_path}/a.root:deep/tree") == ("../a.root", "deep/tree")
    for url in (
        "root://eos.cern.ch:1094//eos/a.root",
        "https://host:8080/a.root?token=x:y",
        "s3://bucket/a.root",
    ):
        assert seen_from(tmp_path, f"{url}:Events") == (url, "Events")
    for bad in ("a.root", "root://host//a.root", ":Events", "a.root:"):
        with pytest.raises(ValueError, match="names no tree"):
            split_tree(bad)


def test_friends_never_share_a_name():
    sources = ["x/a b.root:T", "y/a_b.root:T", "y/a_b.root:U", "root://h//z/a_b.root?q=/1.root:T"]
    assert friend_names(sources) == ["000_a_b.root", "001_a_b.root", "002_a_b.root", "003_a_b.root"]
    many = friend_names([f"{i}.root:T" for i in range(1001)])
    assert many == sorted(many)


def test_the_specification_names_one_sample_per_input(nano, written):
    paths = written[0]
    specification = json.loads((paths[0].parent / "friends.json").read_text())
    samples, chain = specification["samples"], specification["friends"]["hepxai"]
    inputs = [f"{paths[0].parent / s['files'][0]}:{s['trees'][0]}" for s in samples.values()]
    assert [os.path.normpath(name) for name in inputs] == list(nano.events.files)
    assert chain == {"trees": ["hepxai"] * 3, "files": [p.name for p in paths]}


ODD = [
    "",
    "a b",
    'say "hi"',
    "back\\slash",
    "what??/",
    "new\nline\r\ttab",
    "\0001",
    "\x1b[0m\x7f",
    "\udcff7",
    "μé",
]


@pytest.mark.parametrize("text", ODD)
def test_literals_hold_the_bytes_of_any_text(text):
    written = literal(text)
    assert written.isprintable()
    assert "??" not in written
    inside = re.fullmatch(r'"((?:[^"\\]|\\["\\?]|\\[0-7]{3})*)"', written).group(1)
    escape = rb"\\(?:([0-7]{3})|(.))"
    content = re.sub(escape, lambda m: bytes([int(m[1], 8)]) if m[1] else m[2], inside.encode())
    assert content == text.encode("utf-8", "surrogateescape")


@pytest.mark.skipif(shutil.which("g++") is None, reason="needs a C++ compiler")
def test_a_compiler_reads_the_same_literals(tmp_path: Path):
    rows = "".join(f"{{{literal(text)}, {len(text.encode('utf-8', 'surrogateescape'))}}},\n" for text in ODD)
    (tmp_path / "a.cpp").write_text(
        "#include <cstdio>\nstruct Row { const char *text; unsigned long size; };\n"
        f"const Row rows[] = {{{rows}}};\n"
        "int main() { for (auto &r : rows) { std::fwrite(r.text, 1, r.size, stdout); } }\n"
    )
    subprocess.run(["g++", "-std=c++14", "a.cpp", "-o", "a"], cwd=tmp_path, check=True)
    done = subprocess.run([tmp_path / "a"], capture_output=True, check=True)
    assert done.stdout == b"".join(text.encode("utf-8", "surrogateescape") for text in ODD)


def test_classes_give_histograms_names_that_root_can_say(nano):
    """At its prompt `h->Draw()` needs one word; two classes never share it."""
    schema = replace(nano.events.schema, classes=("t t̄", "A → μμ", "A - μμ", "signal"))
    text = macro(Path(), nano.events.replace(schema=schema), {})
    rows = text[text.index("const Rows classes = {") : text.index("const Rows scores")]
    words = re.findall(r'", "(.*)"\},', rows)
    assert words == ["t_t_", "A______1", "A______2", "signal"]


@pytest.mark.parametrize(
    "prefix", ['Muon_pt, gSystem->Exec("x")); //', "Muon pt", "1Muon", "Müon", "Muon\n", "a-b"]
)
def test_only_plain_prefixes_are_compiled(nano, prefix):
    schema = replace(nano.events.schema, collections=("Electron", prefix, "Jet_2", "MET"))
    text = macro(Path(), nano.events.replace(schema=schema), {})
    rows = text[text.index("const Rows particles = {") : text.index("const Rows classes")]
    assert '{"muon", ""},' in rows
    assert '{"electron", "Electron"},' in rows
    assert '{"jet", "Jet_2"},' in rows
    assert prefix not in text


def test_errors_stand_beside_their_values(nano, explain, tmp_path: Path):
    events = nano.events
    pairs = explain["edge_ig"](events)
    pairs = pairs.replace(error=np.abs(pairs.values))
    particles = explain["node_ig"](events).sum("feature").select(particle="muon")
    particles = particles.replace(error=np.abs(particles.values))
    paths = write_friends(tmp_path, events, [pairs, particles])
    trees = [uproot.open(path)["hepxai"] for path in paths]
    found = 0
    for row, _ in rows(trees, events):
        value, error = (row[f"hepxai_edge_ig_{leaf}"] for leaf in ("value", "error"))
        assert error == pytest.approx(np.abs(value))
        found += len(error)
        value, error = (np.array(row[f"hepxai_particle_node_ig{leaf}"]) for leaf in ("", "_error"))
        muon = np.array(row["hepxai_particle_type"], dtype=np.int64) == 1
        assert error[muon] == pytest.approx(np.abs(value[muon]))
        assert (error[~muon] == -999).all()
    assert found == len(pairs.values)


def test_columns_and_neurons_of_a_table(nano, tmp_path):
    """One number for each column, one list for each layer; empty where an event was not explained."""
    events = nano.events
    rng = np.random.default_rng(5)
    names = tuple(f"dense_{1 + i // 200}:{i % 200}" for i in range(300))
    columns = ("ht", "n jets")

    def attribution(method: str, axis: str, labels: tuple[str, ...]) -> Attribution:
        values = rng.normal(size=(len(events), len(labels)))
        return Attribution(values, ("event", axis), events, method, "signal", labels={axis: labels})

    made = [attribution("feature_ig", "feature", columns), attribution("conductance", "neuron", names)]
    some = np.flatnonzero(events.label == 1)[::-1]
    trees = [uproot.open(p)["hepxai"] for p in write_friends(tmp_path, events, [made[0], made[1][some]])]
    for row, event in rows(trees, events):
        for layer, part in (("dense_1", slice(0, 200)), ("dense_2", slice(200, 300))):
            found = row[f"hepxai_conductance_{layer}_value"]
            if event is None or event not in some:
                assert found == []
            else:
                np.testing.assert_allclose(found, made[1].values[event, part], rtol=1e-6)
        for i, name in enumerate(("ht", "n_jets")):
            expected = -999 if event is None else made[0].values[event, i]
            assert row[f"hepxai_feature_ig_{name}"] == pytest.approx(expected, rel=1e-6)
