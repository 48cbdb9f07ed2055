"""examples/browser: the page trains and recognises a drawing, in a real browser without a window."""

import functools
import re
import runpy
import shutil
import subprocess
import sys
import threading
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from javascript import needs_wasm_linker

FOLDER = Path(__file__).parents[2] / "examples" / "browser"
CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
pytestmark = [pytest.mark.process, pytest.mark.cpu("WebAssembly is for the CPU"), needs_wasm_linker]

# A reader who draws a vertical line: events that a script makes have no pointer that can be captured
DRAW = """
<script type="module">
const drawing = document.getElementById("drawing");
drawing.setPointerCapture = () => {};
drawing.hasPointerCapture = () => true;
const { left, top, width, height } = drawing.getBoundingClientRect();
const send = (type, x, y) => drawing.dispatchEvent(
  new PointerEvent(type, { pointerId: 1, clientX: left + x * width, clientY: top + y * height }));
send("pointerdown", 0.5, 0.15);
for (let i = 1; i <= 10; i++) send("pointermove", 0.5, 0.15 + i * 0.07);
send("pointerup", 0.5, 0.85);
</script>
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """The folder of the page."""
    folder = tmp_path_factory.mktemp("page")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["make_page.py", str(folder)])
        runpy.run_path(str(FOLDER / "make_page.py"), run_name="__main__")
    return folder


class Silent(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def in_browser(folder, path):
    """The page's text of elements after it has run."""
    handler = functools.partial(Silent, directory=folder)
    with ThreadingHTTPServer(("localhost", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        options = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=60000", "--dump-dom"]
        url = f"http://localhost:{server.server_port}/{path}"
        found = subprocess.run([CHROMIUM, *options, url], capture_output=True, text=True, check=True, timeout=100)
        server.shutdown()
    return {name: re.search(rf'id="{name}"[^>]*>([^<]*)', found.stdout)[1] for name in ("status", "answer", "train")}


def test_the_files_are_small(page):
    sizes = {path.name: path.stat().st_size for path in page.iterdir()}
    assert set(sizes) == {
        "index.html",
        "page.mjs",
        "digits.mjs",
        "digits.d.ts",
        "digits.d.mts",
        "digits.wasm",
        "digits.bin",
    }
    assert sum(sizes.values()) < 400_000
    assert sizes["digits.bin"] == 1797 * 65
    assert "$" not in (page / "index.html").read_text()


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_it_trains(page):
    found = in_browser(page, "?train")
    loss, accuracy = re.match(r"Epoch 5: loss (\S+), accuracy (\S+) %\.", found["status"]).groups()
    assert float(loss) < 0.3 and float(accuracy) > 90
    assert found["train"] == "Train 5 epochs"


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_it_recognises_a_drawing(page):
    (page / "drawn.html").write_text((page / "index.html").read_text().replace("</body>", f"{DRAW}</body>"))
    try:
        found = in_browser(page, "drawn.html?train")
    finally:
        (page / "drawn.html").unlink()
    assert re.fullmatch(r"This is a 1, with \d+ %\.", found["answer"])


@pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
def test_a_network_that_cannot_be_loaded(page):
    (page / "digits.wasm").rename(page / "moved.wasm")
    try:
        found = in_browser(page, "")
    finally:
        (page / "moved.wasm").rename(page / "digits.wasm")
    assert found["status"].startswith("The network could not be loaded.") and "404" in found["status"]
