"""Write docs/terminal.svg, the recorded terminal of README.md.

    python scripts/make_terminal.py [--port 8000] [FILE]

The script runs each command of `record` in a terminal of its own, in an empty folder with two files: script.py, the Python block
of README.md, and digit.json, the first test image as a request. It needs Linux or macOS, curl, and `nbkeras` and `python` beside
this Python. The SVG shows the real lines in their order. Lines that `record` does not name are left out, which "…" marks.
Waiting is shortened to PAUSE. The SVG needs no JavaScript: CSS lights up each line at its time, once, so that a still picture
is readable too; readers who asked for less motion get the last picture.
"""

import argparse
import codecs
import json
import os
import pty
import re
import subprocess
import sys
import tempfile
import textwrap
import time
import urllib.request
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

from nbkeras.datasets import digits

ROOT = Path(__file__).parents[1]
COLUMNS = 52  # few enough for a phone
AHEAD = "─"  # stands for the gray part of a bar of progress
PAUSE = 1.0  # the longest wait in the recording, in seconds


class Line(NamedTuple):
    """A line of the recording: its texts, each with the second at which it appears, and whether it is a command."""

    texts: list[tuple[float, str]]
    is_command: bool = False


def seen_lines(chunks: list[tuple[float, str]]) -> list[list[tuple[float, str]]]:
    """Of each line, its texts and their times: a carriage return goes back to the start of a line, a backspace one character."""
    lines: list[list[tuple[float, str]]] = [[]]
    shown: list[str] = []
    at = 0
    for when, chunk in chunks:
        gray = re.sub("\x1b\\[37m(━+)", lambda found: AHEAD * len(found[1]), chunk.replace("\r\n", "\n"))
        for part in re.split("(\n)", re.sub("\x1b\\[[0-9;?]*[A-Za-z]", "", gray)):
            for character in part if part != "\n" else "":
                if character in "\r\b":
                    at = 0 if character == "\r" else max(0, at - 1)
                else:
                    shown[at : at + 1] = character
                    at += 1
            if part != "\n" and shown:
                lines[-1].append((when, "".join(shown).rstrip()))
            elif part == "\n":
                lines.append([])
                shown, at = [], 0
    return lines


def environment() -> dict[str, str]:
    """A terminal's variables, with the folder of this Python first in PATH."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return os.environ | {"PATH": path, "TERM": "xterm", "COLUMNS": str(COLUMNS)}


def output(
    command: str, folder: str, is_last: Callable[[str], bool]
) -> tuple[subprocess.Popen, list[tuple[float, str]]]:
    """Run a command in a new terminal until it ends, or `is_last` of its output; the process, and what it printed when."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        command.removesuffix(" &").split(), cwd=folder, env=environment(), stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    chunks: list[tuple[float, str]] = []
    decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a character may come in two parts
    while True:
        try:
            read = os.read(ours, 65536)
        except OSError:  # Linux's end of a terminal whose process has ended
            read = b""
        chunks.append((time.monotonic(), decoder.decode(read)))
        if not read or is_last("".join(text for _, text in chunks)):
            return process, chunks


def broken(text: str) -> list[str]:
    """The lines of COLUMNS characters that show a line."""
    return textwrap.wrap(text, COLUMNS) if len(text) > COLUMNS else [text]


class Recording:
    """The lines so far; its clock is that of the commands, without long waits."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.clock = 0.0

    def add(self, command: str, chunks: list[tuple[float, str]], wanted: str) -> None:
        """Add a command and those lines of its output that match `wanted`, with the progress below them."""
        self.lines.append(Line([(self.clock, f"$ {command}")], is_command=True))
        self.clock += PAUSE
        last = chunks[0][0]
        is_wanted = False
        for texts in seen_lines(chunks):
            is_progress = bool(texts) and "━" in texts[-1][1]  # it is wanted if the line before it is
            is_wanted = is_wanted if is_progress else bool(texts and re.match(wanted, texts[-1][1]))
            if not is_wanted:
                if texts and self.lines[-1].texts[-1][1] != "…":
                    self.lines.append(Line([(self.clock, "…")]))
                continue
            line = Line([])
            self.lines.append(line)
            for when, text in texts if is_progress else texts[-1:]:
                self.clock += min(PAUSE, max(0.0, when - last))
                last = when
                line.texts.append((self.clock, broken(text)[0]))
            self.lines += [Line([(self.clock, rest)]) for rest in broken(texts[-1][1])[1:]]
        self.clock += PAUSE


def wait_for_model(server: subprocess.Popen, port: int) -> None:
    """Return when the server has loaded the model."""
    until = time.monotonic() + 60
    while server.poll() is None and time.monotonic() < until:
        try:
            with urllib.request.urlopen(f"http://localhost:{port}/v2/models/digits/ready", timeout=10):
                return
        except OSError:  # not listening yet, or the answer 503
            time.sleep(0.1)
    raise SystemExit(
        f"`nbkeras serve` must load its model on port {port} within a minute, but does not: try another --port"
    )


def record(port: int) -> list[Line]:
    """Run the commands of the recording; its lines."""
    recording = Recording()
    with tempfile.TemporaryDirectory() as folder:
        readme = (ROOT / "README.md").read_text(encoding="utf-8")
        block = re.search(r"^```python\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
        if block is None:
            raise SystemExit("README.md must have a Python block, which the recording runs: found none")
        (Path(folder) / "script.py").write_text(block[1], encoding="utf-8")
        image = digits.load_data()[1][0][0]
        (Path(folder) / "digit.json").write_text(json.dumps({"instances": [image.tolist()]}), encoding="utf-8")

        def run(command: str, wanted: str) -> None:
            process, chunks = output(command, folder, lambda text: False)
            if process.wait(timeout=60):
                raise SystemExit(f"`{command}` must succeed, but its exit code is {process.returncode}: {chunks}")
            recording.add(command, chunks, wanted)

        run("nbkeras digits", r"\d+ train|Total|Epoch (1|20)/|Test")
        run("python script.py", "Epoch 10/")
        command = "nbkeras serve digits.keras" + (f" --port {port}" if port != 8000 else "") + " &"
        server, chunks = output(command, folder, lambda text: "started" in text)
        try:
            wait_for_model(server, port)
            recording.add(command, chunks, r".*started")
            run(f"curl -s localhost:{port}/predict -d @digit.json", r"\{")
        finally:
            server.terminate()
            server.wait(timeout=60)
    return recording.lines


SIZE, HEIGHT, MARGIN, BAR = 15, 21, 16, 30  # of letters, lines, around the text, of the window's bar
STYLE = f"""
text {{ font: {SIZE}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; fill: #d1d7e0 }}
text {{ white-space: pre }} .back {{ fill: #151b23 }} .bar {{ fill: #2a313c }} .knob {{ fill: #656c76 }}
.command {{ fill: #7ee787 }} .ahead {{ fill: #545d68 }}
.passing {{ visibility: hidden }}
@media (prefers-reduced-motion: no-preference) {{
@keyframes light {{ from {{ opacity: 0.35 }} }}
@keyframes appear {{ from {{ visibility: hidden }} }}
@keyframes pass {{ from, to {{ visibility: visible }} }}
text {{ animation: light 1ms both }} .after {{ animation-name: appear }} .passing {{ animation: pass 1ms }}
}}
"""


def drawn(lines: list[Line]) -> str:
    """The SVG of a recording."""
    width, height = round(2 * MARGIN + COLUMNS * SIZE * 0.602), BAR + 2 * MARGIN + HEIGHT * len(lines)
    parts = []
    for row, line in enumerate(lines):
        y = BAR + MARGIN + HEIGHT * row + SIZE
        for at, (when, text) in enumerate(line.texts):
            kind, style = "command" if line.is_command else "", f"animation-delay:{when:.2f}s"
            if at < len(line.texts) - 1:
                until = line.texts[at + 1][0]
                if until - when < 0.02:
                    continue  # nobody would see it
                kind, style = "passing", f"animation-delay:{when:.2f}s;animation-duration:{until - when:.2f}s"
            elif at:
                kind = "after"  # other texts were in its place
            # a font of another width is squeezed into the same columns
            length = f' textLength="{len(text) * SIZE * 0.602:.1f}" lengthAdjust="spacingAndGlyphs"' if text else ""
            ahead = re.sub(
                f"{AHEAD}+", lambda bar: f'<tspan class="ahead">{"━" * len(bar[0])}</tspan>', escape(text, quote=False)
            )
            parts.append(f'<text x="{MARGIN}" y="{y}"{length} class="{kind}" style="{style}">{ahead}</text>')
    knobs = [f'<circle class="knob" cx="{MARGIN + 4 + 18 * at}" cy="{BAR / 2:g}" r="5"/>' for at in range(3)]
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
            ' role="img">',
            "<title>A terminal: nbkeras trains a network, serves it, and answers a request of curl</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="back" width="{width}" height="{height}"/>',
            f'<rect class="bar" width="{width}" height="{BAR}"/>',
            *knobs,
            *parts,
            "</svg>\n",
        ]
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Record the terminal of README.md.")
    parser.add_argument("--port", type=int, default=8000, help="the server's port (default 8000)")
    parser.add_argument("file", nargs="?", type=Path, default=ROOT / "docs" / "terminal.svg", help="the SVG to write")
    options = parser.parse_args()
    options.file.write_text(drawn(record(options.port)), encoding="utf-8")


if __name__ == "__main__":
    main()
