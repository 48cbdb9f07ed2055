"""The status page: its file, its headers, and the figures that it shows."""

import asyncio
import base64
import hashlib
import html.parser
import json
import re

import pytest

pytest.importorskip("starlette")
pytest.importorskip("prometheus_client")

from in_memory import Fake, ended, exchange, spec

from nbkeras.serving import page
from nbkeras.serving.http import Application
from nbkeras.serving.metrics import Metrics
from nbkeras.serving.options import ModelOptions
from nbkeras.serving.repository import LOADING, STARTING, UNAVAILABLE, Repository
from nbkeras.serving.service import Service
from nbkeras.serving.shared_metrics import SharedMetrics

SCRIPT = "<script>alert(1)</script>"
TEXT = page.html().decode()


class Elements(html.parser.HTMLParser):
    """The elements of a page, as (tag, attributes, the element in which it is)."""

    EMPTY = {"meta", "link", "input"}

    def __init__(self, text):
        super().__init__()
        self.found, self.open = [], []
        self.feed(text)
        self.close()
        assert not self.open, self.open

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.found.append((tag, attributes, [*self.open]))
        if tag not in self.EMPTY:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.found.append((tag, dict(attributes), [*self.open]))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


ELEMENTS = Elements(TEXT).found
RELATIVE = ("status.json", "metrics", "v2")  # a proxy may add a prefix
CODE = re.search(r"<script>(.*?)</script>", TEXT, re.DOTALL)[1]


def with_tag(*tags):
    return [(tag, attributes, around) for tag, attributes, around in ELEMENTS if tag in tags]


def test_the_script_finds_what_it_looks_for():
    ids = [attributes["id"] for _, attributes, _ in ELEMENTS if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = set(re.findall(r'\bat\("([^"]+)"\)', CODE)) | {"body", "sequence-id", "sequence-start", "sequence-end"}
    assert len(used) > 20 and used <= set(ids)
    named = {
        attributes[name]
        for _, attributes, _ in ELEMENTS
        for name in ("aria-labelledby", "aria-describedby")
        if name in attributes
    }
    assert named <= set(ids)


def test_nothing_comes_from_elsewhere_and_no_text_becomes_html():
    for tag, attributes, _ in ELEMENTS:
        assert not [name for name in attributes if name.startswith("on") or name == "style"]
        assert "src" not in attributes
        assert tag != "link" or attributes["href"] == "data:,"
        assert tag != "a" or attributes["href"] in RELATIVE
    assert not re.search(r"https?:|\b//|@import|\burl\(", TEXT)
    assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|\beval\b|new Function", CODE)


def test_people_who_do_not_see_the_page_can_use_it():
    assert with_tag("html")[0][1]["lang"] == "en" and with_tag("title", "h1")
    assert "width=device-width" in with_tag("meta")[1][1]["content"]
    for tag, attributes, around in with_tag("input", "select", "textarea"):
        assert "label" in around or "aria-label" in attributes, (tag, attributes)
    for _, attributes, _ in with_tag("pre"):  # they scroll, so the keyboard must reach them
        assert attributes["tabindex"] == "0" and attributes["aria-label"]
    live = [
        attributes
        for _, attributes, _ in ELEMENTS
        if "aria-live" in attributes or attributes.get("role") in ("status", "alert")
    ]
    assert len(live) >= 3
    assert "prefers-color-scheme: dark" in TEXT and ":focus-visible" in TEXT


def luminance(color):
    digits = color[1:] if len(color) == 7 else "".join(2 * digit for digit in color[1:])
    parts = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return sum(weight * part for weight, part in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


@pytest.mark.parametrize("place", [0, 1], ids=["light", "dark"])
def test_text_has_the_contrast_of_wcag(place):
    block = re.findall(r":root \{(.*?)\}", TEXT, re.DOTALL)[place]
    colors = dict(re.findall(r"--([a-z-]+): (#[0-9a-f]{3,6})\b", block))
    pairs = [(text, ground) for text in ("text", "quiet", "accent") for ground in ("ground", "card")]
    pairs += [(kind, f"{kind}-ground") for kind in ("good", "bad", "wait")] + [
        ("on-accent", "accent"),
        ("text", "line"),
    ]
    for text, ground in pairs:
        high, low = sorted((luminance(colors[text]), luminance(colors[ground])), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (text, ground)


# -------------------- the endpoints --------------------


class Script(Fake):
    """A model with an open size and a name that is a script."""

    inputs = (spec(SCRIPT, (None, 3)), spec("words", (2,), object))
    outputs = (spec("y", (1,), "int64"),)


SOURCE = {"sha256": "ab" * 32, "modified": "2026-01-30T12:00:00Z", "bytes": 7}


def served():
    metrics = Metrics(SharedMetrics(2))
    repository = Repository(metrics.segment)
    service = Service(repository)
    repository.set(SCRIPT, "1", Script(), ModelOptions(name="m"))
    repository.set(SCRIPT, "2", Script(), ModelOptions(name="m", version="2"), SOURCE)
    repository.mark(SCRIPT, "2", UNAVAILABLE, "not a zip", "2026-01-31T12:00:00Z")
    repository.mark("slow", "1", LOADING, STARTING)
    repository.mark("broken", "1", UNAVAILABLE, f"no model: {SCRIPT}")
    metrics.segment.request(ended(SCRIPT, "2"))
    metrics.segment.batch(SCRIPT, "2", 6, 0.004, [0.0002, 0.2])
    return service, metrics


def get(path, method="GET"):
    service, metrics = served()
    application = Application(service, routes=page.routes(service, metrics))
    return asyncio.run(exchange(application, method, path, {}))


@pytest.mark.parametrize("path", ["/", "/status"])
def test_the_page_is_served_with_a_policy_for_its_own_script_alone(path):
    status, headers, body = get(path)
    assert status == 200 and body == page.html() and headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(rule.split(" ", 1) for rule in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == policy["base-uri"] == policy["frame-ancestors"] == "'none'"
    assert policy["connect-src"] == "'self'" and "unsafe" not in headers["content-security-policy"]
    digest = base64.b64encode(hashlib.sha256(CODE.encode()).digest()).decode()
    assert policy["script-src"] == f"'sha256-{digest}'"
    assert headers["x-content-type-options"] == "nosniff" and headers["referrer-policy"] == "no-referrer"
    assert get(path, "HEAD")[0] == 200
    assert get(path, "POST")[0] == 405


def test_the_figures_of_the_page():
    status, headers, body = get("/status.json")
    assert status == 200 and headers["content-type"] == "application/json" and headers["cache-control"] == "no-store"
    assert headers["x-content-type-options"] == "nosniff"
    found = json.loads(body)
    assert not found["is_ready"] and not found["is_draining"] and found["time"] >= found["started"]
    first, second, broken, slow = found["models"]
    assert (first["name"], first["version"], first["is_default"]) == (SCRIPT, "1", False)
    assert (second["version"], second["is_default"], second["requests"], second["rows_sum"]) == ("2", True, 1, 6)
    assert second["source"] == SOURCE and first["source"] == {}
    assert (second["state"], second["reason"]) == ("READY", "the last load failed at 2026-01-31T12:00:00Z: not a zip")
    assert sum(second["queue"]) == 2 and sum(second["compute"]) == sum(second["rows"]) == sum(second["duration"]) == 1
    assert len(second["duration"]) == len(found["seconds"]) + 1 and len(second["rows"]) == len(found["rows"]) + 1
    assert [each["example"] for each in second["inputs"]] == [[1, 1, 3], [1, 2]]
    assert second["inputs"][1]["datatype"] == "BYTES" and second["outputs"][0]["datatype"] == "INT64"
    assert (broken["state"], broken["reason"]) == ("UNAVAILABLE", f"no model: {SCRIPT}")
    assert (slow["state"], slow["inputs"], slow["duration"]) == ("LOADING", [], [0] * len(second["duration"]))
    mine, other = found["workers"]
    assert mine["process"] and mine["resident_bytes"] >= mine["proportional_bytes"] > 0 and mine["restarts"] == 0
    assert (other["process"], other["resident_bytes"]) == (0, None)


def test_the_script_reads_what_the_server_tells():
    """Each name that the script takes from the figures is there."""
    found = json.loads(get("/status.json")[2])
    model, worker = found["models"][0], found["workers"][0]
    assert set(re.findall(r"\bmodel\.([a-z_]+)", CODE)) <= {*model, "batch_sizes"}
    assert set(re.findall(r"\bworker\.([a-z_]+)", CODE)) <= set(worker)
    assert set(re.findall(r"\bstatus\.([a-z_]+)", CODE)) - {"json"} <= set(found)
