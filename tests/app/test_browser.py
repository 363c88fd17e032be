"""The page in Chromium: pages, uploads good and bad, two sessions, keyboard, a phone, no other machine."""

from __future__ import annotations

import os
import pickle
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode, urlparse
from urllib.request import urlopen

import numpy as np
import pytest
import uproot
from app_files import onnx_file, root_files, run_folder, sample, scratch, skops_file, xgboost_file, zipped

pytest.importorskip("streamlit")

pytestmark = pytest.mark.filterwarnings("ignore")
SECONDS = 300
WIDE, PHONE = {"width": 1300, "height": 1000}, {"width": 390, "height": 844}


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    """Address of the page of three small runs, as the command starts it."""
    for kind in ("graph", "table", "image"):
        run_folder(kind)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = Path(__file__).parents[2]
    environment = os.environ | {"PYTHONPATH": str(root), "XDG_CACHE_HOME": str(scratch() / "cache")}
    (scratch() / "temporary").mkdir()
    environment["TMPDIR"] = str(scratch() / "temporary")
    command = [sys.executable, "-m", "hepxai", "app", str(scratch()), "--port", str(port)]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    try:
        wait_for(f"http://127.0.0.1:{port}/_stcore/health")
        yield f"http://127.0.0.1:{port}/"
    finally:
        os.killpg(process.pid, 2)
        process.wait(20)
    assert not list(Path(environment["TMPDIR"]).glob("hepxai-session-*"))  # uploads are gone with the page


def wait_for(url: str) -> None:
    for _ in range(SECONDS):
        try:
            with urlopen(url):
                return
        except OSError:
            time.sleep(1)
    raise TimeoutError(url)


@pytest.fixture
def visit(address: str, chromium: Any) -> Iterator[Callable[..., Any]]:
    """Open a page in a session of its own; nothing may be asked of another machine."""
    contexts, hosts = [], set()

    def open_page(size: dict[str, int] = WIDE, **link: str) -> Any:
        contexts.append(chromium.new_context(viewport=size, accept_downloads=True))
        page = contexts[-1].new_page()
        page.on("request", lambda r: hosts.add(urlparse(r.url).hostname))
        page.on("dialog", lambda d: pytest.fail(f"a script ran: {d.message}"))
        page.set_default_timeout(1000 * SECONDS)
        page.goto(f"{address}?{urlencode(link)}")
        page.get_by_test_id("stSelectbox").first.wait_for()
        settled(page)
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert hosts <= {"127.0.0.1", "", None}


def settled(page: Any) -> None:
    """Wait until nothing is calculated any more."""
    quiet, start = 0, time.monotonic()
    while quiet < 4 and time.monotonic() - start < SECONDS:
        busy = page.get_by_test_id("stStatusWidget").count() + page.get_by_test_id("stProgress").count()
        quiet = 0 if busy else quiet + 1
        page.wait_for_timeout(250)
    assert quiet == 4


def errors(page: Any) -> list[str]:
    return [t for t in page.get_by_test_id("stAlert").all_inner_texts() if "went wrong" in t] + list(
        page.get_by_test_id("stException").all_inner_texts()
    )


@pytest.mark.parametrize(
    "link",
    [
        {"open": "run:graph", "a": "attention", "b": "edge_ig", "b.edge_ig.steps": "4"},
        {"open": "run:table"},
        {"open": "run:image", "a": "saliency"},
        {"open": "run:graph", "page": "Population", "a": "attention", "most": "20"},
        {"open": "run:graph", "page": "Convergence", "methods": '["attention", "node_ig"]'},
        {"open": "upload"},
    ],
    ids=["event", "table", "image", "population", "convergence", "upload"],
)
def test_pages(visit: Callable[..., Any], link: dict[str, str]) -> None:
    page = visit(**link)
    assert not errors(page)
    images = page.get_by_test_id("stImage")
    assert images.count() >= (link["open"] != "upload")
    for size in (WIDE, PHONE):
        page.set_viewport_size(size)
        page.wait_for_timeout(300)
        width = page.evaluate("document.documentElement.scrollWidth")
        assert width <= size["width"], "the page scrolls sideways"
    if images.count():  # on a phone, above the fields
        fields = page.locator(".st-key-fields").bounding_box()
        assert images.first.bounding_box()["y"] < fields["y"]


def upload(page: Any, model: Path, *events: Path) -> None:
    inputs = page.locator("input[type=file]")
    inputs.nth(0).set_input_files(str(model))
    settled(page)
    inputs.nth(1).set_input_files([str(e) for e in events])
    settled(page)


UPLOADS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], list[Path]]]] = {
    "run and ROOT": (lambda f: zipped(run_folder("graph"), f / "run.zip"), lambda _: root_files()),
    "ONNX and arrays": (lambda f: onnx_file(f / "m.onnx", (0, 10)), lambda f: [particles(f)]),
    "XGBoost and Parquet": (lambda f: xgboost_file(f / "m.json"), lambda f: [parquet(f)]),
    "skops and ROOT": (lambda f: skops_file(f / "m.skops"), lambda _: root_files()),
    "run and images": (lambda f: zipped(run_folder("image"), f / "run.zip"), lambda f: [images(f)]),
}


def particles(folder: Path) -> Path:
    x, mask = sample()[:20].padded()
    np.savez(folder / "particles.npz", x=x, mask=mask, label=sample().label[:20])
    return folder / "particles.npz"


def parquet(folder: Path) -> Path:
    sample().save(folder / "events.parquet")
    return folder / "events.parquet"


def images(folder: Path) -> Path:
    path = folder / "jets.npz"
    np.savez(path, images=np.random.default_rng(0).random((6, 2, 25, 25)).astype(np.float32))
    return path


@pytest.mark.parametrize("name", UPLOADS)
def test_upload(visit: Callable[..., Any], tmp_path: Path, name: str) -> None:
    model, events = UPLOADS[name]
    page = visit(open="upload")
    upload(page, model(tmp_path), *events(tmp_path))
    if name == "skops and ROOT":  # the card of the sample, whose columns the model was fitted on
        assert "Classes from the names of the files: background, signal" in page.content()
        page.get_by_test_id("stSelectbox").filter(has_text="Card").locator("input").click()
        page.get_by_text("charged_higgs", exact=True).click()
        settled(page)
    if name == "ONNX and arrays":  # shown before anything is scored
        page.get_by_text("The model will receive 10 features, in this order").wait_for()
    page.get_by_role("button", name="Open these files").click()
    if name == "ONNX and arrays":  # a surrogate is trained: not waited for
        page.get_by_text("Settings of surrogate IG").wait_for()
        page.get_by_role("button", name="Cancel").click()
        return
    settled(page)
    assert not errors(page)
    assert page.get_by_test_id("stImage").count()


def script(folder: Path) -> Path:
    path = folder / "<img src=x onerror=alert(1)>.root"
    name = "<script>alert(1)</script>"
    with uproot.recreate(path) as file:
        file.mktree("Events", {name: "float32"})
        file["Events"].extend({name: np.zeros(3, dtype=np.float32)})
    return path


def written(folder: Path, name: str, content: bytes) -> Path:
    (folder / name).write_bytes(content)
    return folder / name


BAD: dict[str, tuple[int, Callable[[Path], Path], str]] = {
    "pickle": (0, lambda f: written(f, "m.pkl", pickle.dumps([1])), "could execute anything"),
    "renamed": (0, lambda f: written(f, "m.onnx", pickle.dumps([1])), "could execute anything"),
    "truncated": (1, lambda f: written(f, "a.root", root_files()[0].read_bytes()[:3000]), "truncated"),
    "script": (1, script, "no branches that look like"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_uploads(visit: Callable[..., Any], tmp_path: Path, name: str) -> None:
    place, make, sentence = BAD[name]
    page = visit(open="upload")
    page.locator("input[type=file]").nth(place).set_input_files(str(make(tmp_path)))
    settled(page)
    alerts = " ".join(page.get_by_test_id("stAlert").all_inner_texts())
    assert sentence in alerts
    assert "Traceback" not in page.content()
    assert not page.locator("img[src=x]").count()


def test_huge_upload(visit: Callable[..., Any], tmp_path: Path) -> None:
    with (tmp_path / "huge.root").open("wb") as file:
        file.write(b"root")
        file.truncate(310 * 2**20)
    page = visit(open="upload")
    page.locator("input[type=file]").nth(1).set_input_files(str(tmp_path / "huge.root"))
    page.get_by_text("must be 300.0MB or smaller", exact=False).wait_for()


def test_two_sessions(visit: Callable[..., Any], tmp_path: Path) -> None:
    """What one uploads, the other does not see; both work at the same time."""
    one, other = visit(open="upload"), visit(open="upload")
    upload(one, skops_file(tmp_path / "secret.skops"), *root_files())
    other.reload()
    settled(other)
    assert "secret" in one.content()
    assert "secret" not in other.content()
    other.goto(other.url.replace("upload", "run:table"))
    settled(other)
    assert other.get_by_test_id("stImage").count()
    assert "secret" in one.content()


def test_keyboard(visit: Callable[..., Any]) -> None:
    """Next event, another page and a download, without a mouse."""
    page = visit(open="run:graph", a="attention")
    event = page.get_by_test_id("stNumberInputField").first
    for _ in range(60):
        page.keyboard.press("Tab")
        if event.evaluate("e => e === document.activeElement"):
            break
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Enter")
    settled(page)
    assert "event=2" in page.url
    radio = page.get_by_role("radio", name="Event")
    radio.focus()
    page.keyboard.press("ArrowRight")
    settled(page)
    assert "page=Population" in page.url


def test_downloads(visit: Callable[..., Any]) -> None:
    page = visit(open="run:table")
    page.get_by_text("Download: figure, numbers, Python").first.click()
    starts = {
        "PNG": b"\x89PNG",
        "PDF": b"%PDF",
        "Numbers (CSV)": b"feature,value",
        "Python": b"import hepxai",
    }
    for label, start in starts.items():
        with page.expect_download() as download:
            page.get_by_role("button", name=label, exact=True).first.click()
        assert Path(download.value.path()).read_bytes().startswith(start)
