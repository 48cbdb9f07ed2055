"""The page of the examples: groups by subject, each with a line about it and a picture of each example's result.

Sphinx-gallery runs the examples and makes their pages and pictures. Its own index has no groups in one folder, so we write ours.
"""

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the tests read the groups without Sphinx
    from sphinx.application import Sphinx

EXAMPLES = Path(__file__).parents[2] / "examples"


class Group(NamedTuple):
    """Examples of one subject, from simple to special."""

    title: str
    about: str
    names: str


GROUPS = [
    Group(
        "Classify images",
        "Networks that name what an image shows, from the smallest program to networks of many layers.",
        "digits_mlp digits_cnn mnist_cnn image_folder resnet mobilenet",
    ),
    Group(
        "Locate, compare, explain",
        "Networks that find the objects in an image or measure how similar images are, and pixels that decide.",
        "unet siamese grad_cam",
    ),
    Group(
        "Few labels, small networks",
        "Training with few labels, or with the help of another network.",
        "transfer_learning mean_teacher knowledge_distillation",
    ),
    Group(
        "Generative models",
        "Networks that clean images or make new ones.",
        "autoencoder vae dcgan wgan_gp",
    ),
    Group(
        "Text",
        "Classes of texts, text that a network writes, and text that it rewrites.",
        "bilstm text_transformer seq2seq_attention char_rnn mini_gpt",
    ),
    Group(
        "Time series and sound",
        "Forecasts, anomalies, and patterns in sounds.",
        "forecast anomaly_autoencoder keyword_spotting",
    ),
    Group(
        "Tables and hyperparameters",
        "Columns of numbers and words, and a search for the best settings.",
        "tabular optuna_search",
    ),
    Group(
        "Reinforcement learning",
        "Agents that learn from their own attempts.",
        "dqn actor_critic",
    ),
    Group(
        "Derivatives and own kernels",
        "Derivatives of higher order, gradients of single samples, and compiled loops of your own.",
        "pinn maml per_sample_gradients custom_kernel",
    ),
]


def whole_figures(block: Any, variables: dict, conf: dict) -> str:
    """Save the figures of a block with all their labels, which the fixed area of Matplotlib may cut off."""
    from sphinx_gallery.scrapers import matplotlib_scraper

    return matplotlib_scraper(block, variables, conf, bbox_inches="tight")


def card(name: str) -> str:
    """The picture and the title of an example, which lead to its page."""
    text = ast.get_docstring(ast.parse((EXAMPLES / f"{name}.py").read_text(encoding="utf-8"))) or name
    title = text.splitlines()[0]
    picture = f"images/thumb/sphx_glr_{name}_thumb.png"
    options = {"target": f"{name}.html", "alt": title, "loading": "lazy"}
    lines = [f"   .. figure:: {picture}", *(f"      :{option}: {value}" for option, value in options.items())]
    return "\n".join([*lines, "", f"      :doc:`{title} <{name}>`", "", ""])


def index() -> str:
    """The page, as reST. Sphinx warns about an example that is in no group."""
    parts = [(EXAMPLES / "GALLERY_HEADER.rst").read_text(encoding="utf-8")]
    for group in GROUPS:
        names = group.names.split()
        pages = "".join(f"   {name}\n" for name in names)
        parts.append(f"\n{group.title}\n{'-' * len(group.title)}\n\n{group.about}\n\n")
        parts.append(".. container:: gallery\n\n" + "".join(card(name) for name in names))
        parts.append(f".. toctree::\n   :hidden:\n\n{pages}")
    return "".join(parts)


def setup(app: "Sphinx") -> dict:
    """Connect to Sphinx."""
    page = Path(app.srcdir) / "examples" / "index.rst"
    # after sphinx-gallery, which writes an index too
    app.connect("builder-inited", lambda app: page.write_text(index(), encoding="utf-8"), priority=900)
    return {"version": "1", "parallel_read_safe": True}
