"""Runs of regressions on detector images: figures of merit, maps of every target, friends, report."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import uproot
from command_line import typed
from matplotlib.figure import Figure
from typer.testing import CliRunner

from hepxai.cli import app
from hepxai.core.files import write_json
from hepxai.datasets import DatasetCard, Reading, read
from hepxai.explainers import CannotExplainError
from hepxai.models import ModelCard
from hepxai.report.view import RunView
from hepxai.report.write import sections
from hepxai.run import Run
from hepxai.run.comparison import compare_run, stored_comparisons
from hepxai.run.manifest import RunError
from hepxai.scan import Scan
from hepxai.scan.space import ScanError

OVERRIDES = {
    "muon_soft_tree": ["training.epochs=1", "channels=[4, 3]", "depth=2"],
    "muon_cnn_linear": ["training.epochs=1", "channels=[4, 3]", "training.keep_checkpoints=[]"],
}
MAPS = {
    "muon_soft_tree": {"image_ig_pt", "image_ig_eta", "soft_tree"},
    "muon_cnn_linear": {"image_ig_pt", "image_ig_eta", "ram_pt", "ram_eta"},
}


@pytest.fixture(scope="module")
def dataset() -> DatasetCard:
    return DatasetCard.find("muon_patterns")


@pytest.fixture(scope="module")
def reading(dataset: DatasetCard) -> Reading:
    return read(dataset, limit=250)


@pytest.fixture(scope="module", params=OVERRIDES)
def finished(
    request: pytest.FixtureRequest,
    dataset: DatasetCard,
    reading: Reading,
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[str, Run]:
    """A run of each kind, with the methods that are done by default."""
    name = request.param
    folder = tmp_path_factory.mktemp("runs") / name
    run = Run.start(folder, dataset, ModelCard.find(name, OVERRIDES[name])).on(reading)
    run.dry_run(None, {})
    run.train(progress=False)
    run.explain(maximum=12, settings={"image_ig": {"steps": 4}})
    run.friends()
    return name, run


def test_every_target_has_its_map(finished: tuple[str, Run]) -> None:
    name, run = finished
    found = run.explained()
    assert set(found) == MAPS[name]
    for key, attribution in found.items():
        assert attribution.values.shape == (12, 9, 384)
        assert key in (attribution.method, f"{attribution.method}_{attribution.target}")
        assert "median_residual" in attribution.checks
    for target in ("pt", "eta"):
        one = found[f"image_ig_{target}"]
        alone = type(run.model).logits(run.model, one.events)[:, run.model.outputs.index(target)]
        empty = one.events.replace(particles=one.events.particles - 1000)
        output_change = alone - run.model.logits(empty)[:, run.model.outputs.index(target)]
        np.testing.assert_allclose(one.output_change, output_change, atol=1e-4)


def test_figures_of_merit(finished: tuple[str, Run]) -> None:
    _, run = finished
    found = run.metrics()["test"]
    own = (run.events.split == 2) & np.isfinite(run.events.targets[:, 1])
    by_hand = np.abs(run.scores[own, 1] - run.events.targets[own, 1]).mean()
    assert found["mae_eta"]["value"] == pytest.approx(by_hand, rel=1e-6)
    assert {"efficiency_pt@15", "gain_pt", "bias_pt"} <= found.keys()
    assert set(found["fakes_pt@15"]) == {"value", "error", "low", "high", "n_eff"}
    np.testing.assert_array_equal(run.predictions["eta"], run.scores[:, 1])


def test_friends_hold_predictions_and_the_values_of_hits(finished: tuple[str, Run]) -> None:
    _, run = finished
    found = run.explained()["image_ig_eta"]
    rows = {(f, e): i for i, (f, e) in enumerate(zip(found.events.file, found.events.entry, strict=True))}
    explained = 0
    for number, path in enumerate(sorted((run.folder / "friends").glob("*.root"))):
        tree = uproot.open(path)["hepxai"]
        assert tree.num_entries == run.events.file_entries[number]
        assert not [k for k in tree if "score" in k or "probability" in k]
        own = run.events.file == number
        said = tree["hepxai_predicted_eta"].array(library="np")
        np.testing.assert_allclose(said[run.events.entry[own]], run.predictions["eta"][own], rtol=1e-6)
        for entry, values in enumerate(tree["hepxai_particle_image_ig_eta"].array().to_list()):
            if (i := rows.get((number, entry))) is None:
                assert set(values) <= {-999.0}
                continue
            one = found[np.array([i])]
            layer, strip = one.events.particles.astype(int).T
            np.testing.assert_allclose(values, one.values[0, layer, strip], rtol=1e-6)
            explained += 1
    assert explained == 12


def test_done_steps_are_not_repeated(
    finished: tuple[str, Run], dataset: DatasetCard, reading: Reading, capsys: pytest.CaptureFixture[str]
) -> None:
    name, run = finished
    before = {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")}
    again = Run.start(run.folder, dataset, ModelCard.find(name, OVERRIDES[name])).on(reading)
    again.train(progress=False)
    again.explain(["image_ig"], maximum=12)
    assert "image_ig_eta: done already" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in run.folder.rglob("*.safetensors")} == before


def test_one_target_can_be_worked_out_again(finished: tuple[str, Run], tmp_path: Path) -> None:
    _, run = finished
    folder = Path(shutil.copytree(run.folder, tmp_path / "copy"))
    before = run.explained()["image_ig_pt"]
    (folder / "explanations" / "image_ig_pt.safetensors").unlink()
    with pytest.warns(UserWarning, match="image_ig_pt"):
        again = Run.open(folder).on(run.reading)
    found = again.explain(["image_ig"], settings={"image_ig": {"steps": 4}})
    np.testing.assert_array_equal(found["image_ig_pt"].values, before.values)


def test_sections(finished: tuple[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """What belongs to a regression on images, and nothing of classes, pairs or logits."""
    name, run = finished
    monkeypatch.setattr("hepxai.report.pixels.convergence_figure", lambda *_, **__: Figure())
    view = RunView(run)
    found = {s.key: s for s in sections(view)}
    assert [k for k in found if k not in ("samples", "cutflow", "training", "provenance")] == [
        "targets",
        "looked",
        "faithfulness",
        "pixels_pt",
        "pixels_eta",
        "residuals",
        "agreement",
    ]
    assert {n["method"] for n in found["looked"].numbers} == {a.method for a in run.explained().values()}
    assert [f.name for f in found["targets"].figures] == ["residuals_pt", "residuals_eta", "turn_on_pt"]
    assert any("hardly better than a constant" in w for w in view.warnings)
    if name == "muon_soft_tree":
        assert "most probable path" in found["pixels_pt"].text[0]
        assert "most probable path" not in found["pixels_eta"].text[0]


@pytest.mark.slow
def test_from_the_command_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["run", "muon_patterns", "muon_soft_tree", "-o", str(out), "-n", "20", "-m", "saliency"]
    quick = [w for o in OVERRIDES["muon_soft_tree"] for w in ("-s", f"model.{o}")]
    done = CliRunner().invoke(app, [*words, *quick])
    assert done.exit_code == 0, done.output
    page = (out / "report.html").read_text(encoding="utf-8")
    for word in ("logit", "ROC", "AUC", "background"):
        assert word not in page.partition('<section id="cards">')[0].partition("<main>")[2], word
    numbers = json.loads((out / "numbers.json").read_text())
    assert "mean |error| of eta" in " ".join(numbers["summary"]["How well"])
    assert "targets/pt_test;1" in uproot.open(out / "histograms.root")
    more = ["explain", str(out), "-m", "smoothgrad", "-w", "smoothgrad.samples=3", "-n", "20"]
    done = CliRunner().invoke(app, more)
    assert done.exit_code == 0, done.output
    assert "smoothgrad_pt: 20 events" in done.stdout
    assert "smoothgrad_eta: 20 events" in done.stdout
    assert "saliency" not in done.stdout


# --- before the training -----------------------------------------------------------------------------


def test_what_cannot_be_kept_is_found_before_the_training(
    dataset: DatasetCard, reading: Reading, tmp_path: Path
) -> None:
    run = Run.start(tmp_path / "cnn", dataset, ModelCard.find("muon_cnn")).on(reading)
    with pytest.raises(ValueError, match=r"in the pixels of the image; leave out ram\.upsample"):
        run.dry_run(["ram"], {"ram": {"upsample": False}})
    with pytest.raises(ValueError, match="not the values pt, eta of a regression"):
        run.dry_run(["surrogate"], {})
    with pytest.raises(CannotExplainError, match="soft_tree needs HasSoftTree"):
        run.dry_run(["soft_tree"], {})


def test_what_a_regression_needs(dataset: DatasetCard, tmp_path: Path) -> None:
    card = ModelCard.find("muon_cnn")
    plain = dataset.model_copy(update={"targets": {}})
    with pytest.raises(RunError, match=r"\(training\.loss\), the events have no targets: declare"):
        Run.start(tmp_path / "run", plain, card)
    assert not (tmp_path / "run").exists()


def test_a_scan_compares_classifiers(dataset: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(ScanError, match=r"this model card learns numbers \(training\.loss\)"):
        Scan.start(tmp_path / "scan", dataset, ModelCard.find("muon_cnn"), ["training.batch_size=32,64"])
    assert not (tmp_path / "scan").exists()


# --- comparison of maps ----------------------------------------------------------------------------------


def test_compare(finished: tuple[str, Run], monkeypatch: pytest.MonkeyPatch) -> None:
    """Stored maps, one made on the spot, numbers in files, and a table in the report."""
    name, run = finished
    monkeypatch.setattr(Run, "open", lambda *_, **__: run)  # of the few events that were read
    assert not stored_comparisons(run)
    stored = "ram" if name == "muon_cnn_linear" else "soft_tree"
    words = ("compare", run.folder, "-m", "image_ig", "-m", stored, "-m", "saliency", "-n", "5")
    result = typed(*words, "--target", "pt", "--again", "1", columns=300)
    assert result.exit_code == 0, result.output
    for text in ("image IG", "saliency", "random values", "rank correlation", "randomised", "s/event"):
        assert text in result.output
    (content,) = stored_comparisons(run)
    assert (content["target"], content["population"]) == ("pt", "5 test events")
    assert list(content["numbers"]) == ["image_ig", stored, "saliency", "random values", "all pixels alike"]
    folder = run.folder / "comparison"
    assert {p.name for p in folder.iterdir()} == {"pt.csv", "pt.json", "pt.png"}
    lines = (folder / "pt.csv").read_text().splitlines()
    assert lines[0] == "target,method,other,what,value,error,events"
    part = next(s for s in sections(RunView(run)) if s.key == "faithfulness")
    assert len(part.tables) == 2
    assert part.tables[1].rows[-1][0] == "all pixels alike"
    for one in part.numbers["checks"]:
        key = next(k for k in (one["method"], f"{one['method']}_{one['target']}") if k in run.explained())
        assert one["value"] == run.explained()[key].checks["faithfulness"]
    shutil.rmtree(folder)


def test_compare_one_image(finished: tuple[str, Run]) -> None:
    _, run = finished
    one = run.events[run.populations.rows()][[3]]
    entry, name = int(one.entry[0]), one.files[one.file[0]]
    table, path = compare_run(
        run, ["image_ig"], target="eta", entry=entry, file=name, again=0, progress=False
    )
    source = name.rpartition("/")[2].partition(".")[0]
    assert (table.events, path.name) == (1, f"eta_{source}_{entry}.json")
    assert not stored_comparisons(run)  # of populations
    with pytest.raises(RunError, match=f"2 events of the run are entry {entry} of a file .* --file; one"):
        compare_run(run, ["image_ig"], entry=entry)
    with pytest.raises(RunError, match="0 events of the run are entry 123456789 of a file; one is needed"):
        compare_run(run, ["image_ig"], entry=123456789)
    shutil.rmtree(path.parent)


def test_a_comparison_of_other_maps_is_out_of_date(finished: tuple[str, Run]) -> None:
    _, run = finished
    _, path = compare_run(run, ["image_ig"], maximum=2, again=0, subsets=(), steps=2, progress=False)
    assert len(stored_comparisons(run)) == 1
    content = json.loads(path.read_text())
    write_json(path, content | {"maps": content["maps"] | {"explanations/image_ig_pt.safetensors": "0"}})
    assert not stored_comparisons(run)
    shutil.rmtree(path.parent)


def test_only_images_are_compared() -> None:
    run = SimpleNamespace(card=SimpleNamespace(view="graph"))
    with pytest.raises(RunError, match="takes the graph view of the events; `hepxai report` compares"):
        compare_run(run)  # type: ignore[arg-type]
