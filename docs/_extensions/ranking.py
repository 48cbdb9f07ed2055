"""The words by which readers look for a page: the search of the site shows that page, or section of it, first.

Without this, a word that is in many pages and names shows names of the reference first. The words become main entries of the
search's index, and a build in which one of them does not lead to its page fails. `results` repeats the calculation of Sphinx's
searchtools.js, with which browsers rank what they find; tests/test_docs.py compares both where there is node.
"""

import json
import re
from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:  # the tests rank results without Sphinx
    from sphinx.application import Sphinx

WORDS = {
    "benchmarks": "benchmark, how fast",
    "callbacks#early-stopping-keep-the-best-lower-the-rate": "early stopping, best weights, reduce learning rate",
    "callbacks#log-training": "tensorboard, csv log",
    "callbacks#schedules": "learning rate schedule",
    "choosing": "loss function, which loss",
    "choosing#unbalanced-classes": "class weight, class weights, imbalanced data, unbalanced classes",
    "coming-from-keras": "keras, tf.keras, migrate",
    "coming-from-keras#keras-2": "keras 2",
    "coming-from-keras#scripts-of-tf-keras": "tensorflow",
    "custom-training": "custom training loop, train_step",
    "export": "onnx",
    "functional": "multiple inputs, multiple outputs",
    "gpu": "gpu, cuda",
    "images#augmentation": "data augmentation, image augmentation",
    "install": "install, pip",
    "limits": "limits, unsupported",
    "moving": "pytorch, torch",
    "overfitting": "overfitting, regularization",
    "precision": "mixed precision, float16, half precision",
    "quantization": "quantization, int8",
    "resuming": "resume training, backup",
    "saving": "save model, save a model, load model, load a model, saving a model, checkpoint",
    "scaling-out": "distributed training, mpi",
    "scikit-learn": "scikit-learn, sklearn, grid search, cross-validation, confusion matrix",
    "serving": "serving, rest api",
    "subclassing": "custom layer, custom layers, custom model",
    "tables": "csv, pandas",
    "text": "text classification",
    "time-series": "time series, forecast",
    "transfer": "transfer learning, fine-tuning, freeze layers",
    "trouble#the-loss-is-nan": "loss is nan, nan loss",
}
FIRST = {word: place for place, words in WORDS.items() for word in words.split(", ")}


class Result(NamedTuple):
    """A line of the page of results: the page, what the line says, the place in the page, and the score."""

    page: str
    title: str
    place: str
    description: str | None
    score: int


BEFORE, AFTER = "Search.setIndex(", ")"


def read(path: Path) -> dict[str, Any]:
    """The index that the page of the search loads."""
    return json.loads(path.read_text(encoding="utf-8").removeprefix(BEFORE).removesuffix(AFTER))


def named(index: dict[str, Any], first: dict[str, str]) -> dict[str, Any]:
    """An index with the words that lead to pages and sections, as main entries.

    They are written into the finished file, because Sphinx keeps entries only of the pages that it has written in the same build.
    """
    sections = {(index["docnames"][page], place) for places in index["alltitles"].values() for page, place in places}
    entries = dict(index["indexentries"])
    for word, place in first.items():
        page, _, section = place.partition("#")
        if (page, section or None) in sections:
            entries[word] = [[index["docnames"].index(page), section, True]]
    return index | {"indexentries": entries}


def results(index: dict[str, Any], query: str, stem: Any, stopwords: Iterable[str] = ()) -> list[Result]:
    """What a search finds, best first. stem: makes the stem of a word. stopwords: words that are left out."""
    wanted = query.lower().strip()
    words = list(dict.fromkeys(re.findall(r"\w+", wanted)))
    stems = list(dict.fromkeys(stem(word) for word in words if word not in stopwords and not word.isdigit()))
    last: list[Result] = []
    found = list(_titles(index, wanted))
    for entry, places in index["indexentries"].items():
        if wanted in entry and len(wanted) >= len(entry) / 2:
            for page, place, main in places:
                result = _of(index, page, place, _rounded(100 * len(wanted) / len(entry)))
                (found if main else last).append(result)
    for word in words:
        found += _objects(index, word, [other for other in words if other != word])
    found += _texts(index, stems)
    best: dict[tuple, Result] = {}
    for part in (found, last):
        for result in sorted(reversed(part), key=lambda result: (-result.score, result.title.lower())):
            best.setdefault(result[:4], result)
    return list(best.values())


def _rounded(score: float) -> int:
    """As JavaScript rounds: halves go up."""
    return int(score + 0.5)


def _of(index: dict[str, Any], page: int, place: str | None, score: int) -> Result:
    return Result(index["docnames"][page], index["titles"][page], f"#{place}" if place else "", None, score)


def _titles(index: dict[str, Any], wanted: str) -> Iterable[Result]:
    """Titles of pages and sections that contain the query, and are at most twice as long."""
    for title, places in index["alltitles"].items():
        if wanted in title.lower().strip() and len(wanted) >= len(title) / 2:
            for page, place in places:
                own = index["titles"][page] == title
                result = _of(index, page, place, _rounded(15 * len(wanted) / len(title)) + own)
                yield result if own else result._replace(title=f"{result.title} > {title}")


def _objects(index: dict[str, Any], word: str, others: list[str]) -> Iterable[Result]:
    """Classes, functions and the like whose name contains a word of the query; the others are in the name or the page's title."""
    for prefix, group in index["objects"].items():
        for page, number, priority, place, name in group:
            full = f"{prefix}.{name}" if prefix else name
            _, kind, called = index["objnames"][str(number)]
            about = f"{prefix} {name} {called} {index['titles'][page]}".lower()
            if word not in full.lower() or any(other not in about for other in others):
                continue
            own = full.lower().rpartition(".")[2]
            score = 11 if word in (full.lower(), own) else 6 if word in own else 0
            score += {0: 15, 1: 5, 2: -5}.get(priority, 0)
            place = {"": full, "-": f"{kind}-{full}"}.get(place, place)
            yield Result(index["docnames"][page], full, f"#{place}", f"{called}, in {index['titles'][page]}", score)


def _texts(index: dict[str, Any], stems: list[str]) -> Iterable[Result]:
    """Pages that have all words of the query in their text or titles."""
    scores: dict[int, dict[str, int]] = defaultdict(dict)
    for stem in stems:
        both = (index["terms"], 5, 2), (index["titleterms"], 15, 7)
        matches = [(terms[stem], whole) for terms, whole, _ in both if stem in terms]
        for terms, _, part in both:
            if stem not in terms and len(stem) > 2:
                matches += [(pages, part) for term, pages in terms.items() if stem in term]
        for pages, score in matches:  # a later match replaces the score of an earlier one
            for page in [pages] if isinstance(pages, int) else pages:
                scores[page][stem] = score
    long = sum(len(stem) > 2 for stem in stems)
    for page, found in scores.items():
        if len(found) in (len(stems), long):
            yield _of(index, page, None, max(found.values()))


def faults(index: dict[str, Any], first: dict[str, str], stem: Any, stopwords: Iterable[str] = ()) -> list[str]:
    """Lines about the queries whose first result is not the page, or the section of a page, that it should be."""
    found = []
    for query, wanted in first.items():
        places = [result.page + result.place for result in results(index, query, stem, stopwords)]
        if places[:1] != [wanted]:
            rank = f"is result {places.index(wanted) + 1}" if wanted in places else "is not found"
            found.append(
                f"search for {query!r}: {wanted} {rank}, and the first result is {places[0] if places else 'none'}"
            )
    return found


def _rank(app: "Sphinx", error: Exception | None) -> None:
    from sphinx.errors import ExtensionError
    from sphinx.search.en import SearchEnglish

    if error is None and app.builder.format == "html":
        language, path = SearchEnglish({}), Path(app.outdir) / "searchindex.js"
        index = named(read(path), FIRST)
        path.write_text(BEFORE + json.dumps(index, separators=(",", ":"), sort_keys=True) + AFTER, encoding="utf-8")
        found = faults(index, FIRST, language.stem, language.stopwords)
        if found:
            raise ExtensionError(
                "\n".join([*found, "WORDS in docs/_extensions/ranking.py says which page a word finds"])
            )


def setup(app: "Sphinx") -> dict:
    """Connect to Sphinx."""
    app.connect(
        "build-finished", _rank, priority=910
    )  # after the theme has written its styles: a build that fails can be looked at
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
