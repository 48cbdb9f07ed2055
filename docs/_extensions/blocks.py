"""The code blocks of a Markdown page: which are run, and which are files. The site and tests/test_docs.py run them alike.

The blocks of a page run in order, in one namespace and an empty folder. A block whose first line is `# name.py` is that file,
for later blocks to import. A block opened by ```python no-run (reason) is not run.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block to run: its first line in the page, its code, where it ends in the text, the file that it is, or None."""

    line: int
    code: str
    end: int
    file: str | None


def python_blocks(text: str, page: str) -> Iterator[Block]:
    """The blocks of a page that are to be run; ValueError for an opening line that says something unknown."""
    for fence in FENCE.finditer(text):
        language, _, rest = fence[1].strip().partition(" ")
        line = text.count("\n", 0, fence.start()) + 2
        if language not in ("python", "py") or re.fullmatch(r"no-run \(.+\)", rest):
            continue
        if rest:
            raise ValueError(f"{page}:{line}: {rest!r} is not known; to leave a block out, say why: no-run (reason)")
        named = re.match(r"# (\w+\.py)\n", fence[2])
        yield Block(line, fence[2], fence.end(), named[1] if named else None)


def run(block: Block, page: str, namespace: dict) -> None:
    """Run a block; an error's traceback names the page and its line."""
    exec(compile("\n" * (block.line - 1) + block.code, f"{page}:{block.line}", "exec"), namespace)
