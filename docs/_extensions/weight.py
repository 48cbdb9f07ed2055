"""Keep the pages of the site light: no page may weigh more than LIMIT, counted with its scripts and styles but without pictures.

A build whose pages are heavier fails and names them. The page of the search is excepted: it loads the index of all words.
"""

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the tests weigh pages without Sphinx
    from docutils import nodes
    from sphinx.application import Sphinx

LIMIT = 300_000  # bytes, uncompressed
EXCEPTED = {"search.html"}
# Tags around code that are left out: names and punctuation then have the colour of the text around them, and a browser does not
# break a line within a word of these characters anyway, as it would at a hyphen.
PLAIN = re.compile(r'<span class="(?:n|o|p|pm|nx)">([^<]*)</span>')
UNBROKEN = re.compile(r'<span class="pre">([\w.,:;=*&#]*)</span>')
# Files that an extension adds to each page, and what a page that needs them has in its text.
NEEDED_BY = {
    "sg": "sphx-glr-",
    "copybutton": 'class="highlight',
    "clipboard": 'class="highlight',
    "filter": 'id="keras-s-names"',
}
TAG = re.compile(r"<(?:link|script)\b[^>]*>")
FILE = re.compile(r'\b(?:href|src)="([^"?#]+)')


def lighter(html: str) -> str:
    """The text of a page without tags around code that do next to nothing."""
    return PLAIN.sub(r"\1", UNBROKEN.sub(r"\1", html))


def loaded(page: Path) -> list[str]:
    """The addresses of the styles and scripts that a page loads."""
    tags = TAG.findall(page.read_text(encoding="utf-8"))
    found = [FILE.search(tag) for tag in tags if tag.startswith("<script") or 'rel="stylesheet"' in tag]
    return [address[1] for address in found if address]


def faults(folder: Path) -> list[str]:
    """Lines about the pages in a folder that are too heavy, or that load a file of another site, which needs a network."""
    found = []
    for page in sorted(folder.rglob("*.html")):
        name = page.relative_to(folder).as_posix()
        elsewhere = [address for address in loaded(page) if "//" in address]
        if elsewhere:
            found.append(f"{name} loads {', '.join(elsewhere)}")
            continue
        size = sum(file.stat().st_size for file in {page, *((page.parent / address) for address in loaded(page))})
        if size > LIMIT and name not in EXCEPTED:
            found.append(f"{name} weighs {size / 1000:.0f} KB, more than {LIMIT / 1000:.0f}: split it")
    return found


def _make_lighter(app: "Sphinx", page: str, template: str, context: dict, doctree: object) -> None:
    body = context.get("body", "")
    for kind in ("css_files", "script_files"):
        context[kind] = [file for file in context[kind] if _needed(Path(file.filename or "").name, body)]
    if body:
        context["body"] = lighter(body)


def _with_its_branch(app: "Sphinx", page: str, template: str, context: dict, doctree: object) -> None:
    """Let the list of pages at the side show the pages below a page only there: those of the reference are many."""
    if "toctree" in context:
        whole = context["toctree"]
        context["toctree"] = lambda **options: whole(**options | {"collapse": True})


def _needed(file: str, body: str) -> bool:
    name = re.match(r"[a-z]*", file)
    return NEEDED_BY.get(name[0] if name else "", "") in body


def _without_index_entries(app: "Sphinx", doctree: "nodes.document", page: str) -> None:
    """Leave the entries of the general index, which are written by now, out of that of the search: it has the objects too."""
    from sphinx import addnodes

    for node in list(doctree.findall(addnodes.index)):
        node.parent.remove(node)


def _weigh(app: "Sphinx", error: Exception | None) -> None:
    from sphinx.errors import ExtensionError

    if error is None and app.builder.format == "html":
        (Path(app.outdir) / "genindex-all.html").unlink(missing_ok=True)  # the index is split by letters
        found = faults(Path(app.outdir))
        if found:
            raise ExtensionError("\n".join(found))


def setup(app: "Sphinx") -> dict:
    """Connect to Sphinx."""
    app.connect("doctree-resolved", _without_index_entries)
    app.connect("html-page-context", _with_its_branch, priority=100)  # before the theme makes the list
    app.connect("html-page-context", _make_lighter, priority=900)  # after the extensions that add files
    app.connect("build-finished", _weigh, priority=900)  # after the theme has written its styles
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
