"""Run docs/gallery.md and keep its figures in docs/img/gallery, small: ``python docs/site/gallery.py``."""

from __future__ import annotations

import os
import re
import tempfile
import time
from pathlib import Path

import matplotlib.pyplot as plt
from PIL import Image

DOCS = Path(__file__).parents[1]
WIDTH, COLOURS = 720, 160


def main() -> None:
    """Run the page in an empty folder, then shrink what it saved."""
    text = (DOCS / "gallery.md").read_text(encoding="utf-8")
    target = DOCS / "img" / "gallery"
    target.mkdir(exist_ok=True)
    names: dict[str, object] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for found in re.finditer(r"^```python(?: slow)?\n(.*?)^```$", text, flags=re.MULTILINE | re.DOTALL):
            start = time.perf_counter()
            code = "\n" * text.count("\n", 0, found.start(1)) + found[1]
            exec(compile(code, "docs/gallery.md", "exec"), names)
            plt.close("all")
            print(f"{time.perf_counter() - start:6.1f} s  line {text.count(chr(10), 0, found.start(1))}")
        for picture in Path().glob("*.png"):
            shrink(picture, target / picture.name)
        os.chdir(DOCS)


def shrink(picture: Path, target: Path) -> None:
    """A picture of at most `WIDTH` pixels and `COLOURS` colours."""
    with Image.open(picture) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if image.mode == "RGBA" else None)
    flat.thumbnail((WIDTH, 2 * WIDTH), Image.Resampling.LANCZOS)
    flat.quantize(COLOURS, dither=Image.Dither.NONE).save(target, optimize=True)


if __name__ == "__main__":
    main()
