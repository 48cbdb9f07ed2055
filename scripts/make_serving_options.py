"""Write the tables of the options of `nbkeras serve` in docs/serving-options.md, between their comments.

python scripts/make_serving_options.py            write them
python scripts/make_serving_options.py --check    check whether they are up to date; the exit code is 1 if not
"""

import dataclasses
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from nbkeras.serving.options import SHARED, ModelOptions, Options

DOCUMENT = Path(__file__).parent.parent / "docs" / "serving-options.md"


def default(value: Any) -> str:
    """A default as a file of options has it."""
    if value in (None, "", ()):
        return ""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"`{list(value)}`" if isinstance(value, tuple) else f"`{value}`"


def table(kind: type, shared: Sequence[str] = ()) -> str:
    """The options of a class. shared: those that may also stand in [server], for all models."""
    lines = ["| option | default | what it is |", "|---|---|---|"]
    for field in filter(lambda field: field.metadata, dataclasses.fields(kind)):
        star = " *" if field.name in shared else ""
        lines.append(f"| `{field.name}`{star} | {default(field.default)} | {field.metadata['description']} |")
    return "\n".join(lines)


def main() -> int:
    text = before = DOCUMENT.read_text(encoding="utf-8")
    for name, made in (("model options", table(ModelOptions, SHARED)), ("server options", table(Options))):
        marks = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        text = re.sub(
            f"{marks[0]}.*?{marks[1]}", lambda _, m=marks, t=made: f"{m[0]}\n{t}\n{m[1]}", text, flags=re.DOTALL
        )
    if "--check" in sys.argv[1:]:
        return int(text != before)
    DOCUMENT.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
