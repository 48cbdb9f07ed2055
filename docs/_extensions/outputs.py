"""Run the Python blocks of each page when the site is built, and show below a block what it printed and drew.

A page whose code raises ends the build. `-D run_blocks=0` builds without running, to look at the text only.
"""

import contextlib
import io
import os
import shutil
import sys
import tempfile
from pathlib import Path

import blocks
from sphinx.application import Sphinx
from sphinx.errors import ExtensionError
from sphinx.util import logging

logger = logging.getLogger(__name__)


def _on_a_terminal(text: str) -> str:
    """Printed text as a terminal shows it: a carriage return goes back to the start of the line, a backspace one character."""
    lines = []
    for line in text.split("\n"):
        shown: list[str] = []
        at = 0
        for character in line:
            if character == "\r":
                at = 0
            elif character == "\b":
                at = max(0, at - 1)
            else:
                shown[at : at + 1] = character
                at += 1
        lines.append("".join(shown).rstrip())
    return "\n".join(lines).strip("\n")


def _pictures(folder: Path, page: str, count: int) -> list[str]:
    """Save the open figures of Matplotlib as SVG files, and close them; take moving pictures (.gif) as they are. Their names."""
    names = []
    for path in sorted(Path().glob("*.gif")):
        names.append(f"{page.replace('/', '-')}-{path.name}")
        shutil.move(path, folder / names[-1])
    if "matplotlib.pyplot" not in sys.modules:
        return names
    from matplotlib import pyplot

    for number in pyplot.get_fignums():
        name = f"{page.replace('/', '-')}-{count + len(names)}.svg"
        pyplot.figure(number).savefig(folder / name, bbox_inches="tight", metadata={"Date": None})
        names.append(name)
    pyplot.close("all")
    return names


def with_outputs(text: str, page: str, pictures: Path, source: Path) -> str:
    """The page's text with the output of each block below it."""
    parts, at, count = [], 0, 0
    namespace: dict = {"__name__": "document"}
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        sys.path.insert(0, folder)
        found = list(blocks.python_blocks(text, page))
        for block in found:
            if block.file:
                Path(block.file).write_text(block.code, encoding="utf-8")
        try:
            for block in found:
                if block.file:
                    continue
                printed = io.StringIO()
                with contextlib.redirect_stdout(printed):
                    blocks.run(block, f"{page}.md", namespace)
                parts.append(text[at : block.end])
                at = block.end
                shown = _on_a_terminal(printed.getvalue())
                if shown:
                    parts.append(f"\n\n```{{code-block}} text\n:class: output\n\n{shown}\n```\n")
                for name in _pictures(pictures, page, count):
                    parts.append(f"\n\n```{{image}} {os.path.relpath(pictures / name, source.parent)}\n```\n")
                    count += 1
        except Exception as error:
            raise ExtensionError(f"the code of {page}.md failed: {type(error).__name__}: {error}") from error
        finally:
            sys.path.remove(folder)
            for block in found:
                if block.file:
                    sys.modules.pop(block.file.removesuffix(".py"), None)
    return "".join([*parts, text[at:]])


def _run_page(app: Sphinx, page: str, source: list[str]) -> None:
    path = Path(app.env.doc2path(page))
    if app.config.run_blocks and path.suffix == ".md":
        pictures = Path(app.srcdir) / "_pictures"
        pictures.mkdir(exist_ok=True)
        logger.info("running the code of %s", page)
        source[0] = with_outputs(source[0], page, pictures, path)


def setup(app: Sphinx) -> dict:
    """Connect to Sphinx."""
    app.add_config_value("run_blocks", True, "env", bool)
    app.connect("source-read", _run_page)
    return {"version": "1", "parallel_read_safe": False}
