"""Adds examples/browser to the site: a page that trains in the reader's browser, at train-in-browser/index.html."""

import runpy
import sys
from pathlib import Path
from typing import Any
from unittest import mock

_SCRIPT = Path(__file__).parents[2] / "examples" / "browser" / "make_page.py"


def _add_page(app: Any, error: Exception | None) -> None:
    if error is None and app.builder.name == "html":
        with mock.patch.object(sys, "argv", [str(_SCRIPT), str(Path(app.outdir) / "train-in-browser")]):
            runpy.run_path(str(_SCRIPT), run_name="__main__")


def setup(app: Any) -> dict[str, bool]:
    app.connect("build-finished", _add_page)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
