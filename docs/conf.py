"""The site: Sphinx reads these pages, the docstrings and the examples. `tox -e docs` builds it into docs/_build/html.

Sphinx rather than a Markdown site generator, because autodoc asks the running Python for signatures and docstrings (those of
layers are put together from the declared options), and sphinx-gallery runs each example and makes its notebook.
"""

import os
import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))
os.environ.setdefault("MPLBACKEND", "agg")

project, author, copyright = "nbkeras", "the nbkeras authors", "the nbkeras authors"
version = release = version_of("nbkeras")

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "myst_parser",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
    "browser",
    "gallery",
    "outputs",
    "ranking",
    "reference",
    "weight",
]
templates_path = ["_templates"]
exclude_patterns = ["_build", "_extensions", "_static", "_templates"]
myst_heading_anchors = 4
myst_enable_extensions = ["colon_fence", "dollarmath"]
suppress_warnings = ["myst.xref_missing"] if os.environ.get("NBKERAS_DOCS_DRAFT") else []

autodoc_member_order = "bysource"
autodoc_typehints = "none"  # the signature shows them; the text of an argument says what it means
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Call arguments", "params_style"), "Input shape", "Output shape"]
add_module_names = False

sphinx_gallery_conf = {
    "examples_dirs": "../examples",
    "gallery_dirs": "examples",
    "filename_pattern": r"\.py$",
    "ignore_pattern": r"__init__\.py",
    "download_all_examples": False,
    "remove_config_comments": True,
    "show_memory": False,
    "write_computation_times": False,
    "min_reported_time": 0,
    "image_scrapers": ["gallery.whole_figures"],
    "image_srcset": ["1.5x"],
    "abort_on_example_error": True,
}

html_theme = "furo"
html_title = "nbkeras"
html_static_path = ["_static"]
html_css_files = ["style.css"]
html_js_files = ["filter.js"]
html_show_sphinx = False
html_copy_source = False
html_split_index = True
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True
linkcheck_timeout = 10
