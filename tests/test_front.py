"""The first pages: their figures and chart come from docs/benchmarks.md, and the recorded terminal is what its commands print."""

import html
import re
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKER = runpy.run_path(str(ROOT / "scripts" / "make_front_chart.py"))
LEVELS = {"AVX2": "x86-64-v3", "AVX-512": "x86-64-v4"}
FIRST_PAGES = ("README.md", "docs/index.md")


def text_of(name):
    return (ROOT / name).read_text(encoding="utf-8")


def words_of(name):
    return " ".join(text_of(name).split())


def tables(section):
    """Each table in a section of docs/benchmarks.md: the names of its columns, and its rows by their first cell."""
    text = (
        text_of("docs/benchmarks.md").partition(f"<!-- begin {section} -->")[2].partition(f"<!-- end {section} -->")[0]
    )
    for lines in re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE):
        columns, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in lines.splitlines())
        yield columns, {name: cells for name, *cells in rows}


def both_levels():
    """The table of both levels: for each level, workload -> (nbkeras's figure, its ratio to the best peer's)."""
    columns, rows = next(tables("workloads"))
    found = {}
    for name, level in LEVELS.items():
        at = columns.index(f"nbkeras, level {level}") - 1
        found[name] = {
            workload: tuple(float(cell.replace(",", "")) for cell in cells[at : at + 2])
            for workload, cells in rows.items()
            if cells[at]
        }
    return found


def trained():
    """The names of the networks of the tables of training."""
    return [name for name, cells in next(tables("workloads"))[1].items() if cells[0] == "ms a step"]


def span(ratios):
    """The range of ratios, as the pages write it."""
    return f"{min(ratios):.2f} to {max(ratios):.2f}"


def span_of(rows, names):
    return span([rows[name][1] for name in names])


def memory(level):
    """The ratios of peak memory of training at a level."""
    found = [
        [float(cells[-1]) for name, cells in rows.items() if name in trained()]
        for columns, rows in tables("workloads")
        if columns[0] == "peak memory, MB" and "keras-jax" in columns
    ]
    return found[list(LEVELS).index(level)]


@pytest.mark.parametrize("page", FIRST_PAGES)
def test_the_figures_of_a_first_page_are_those_of_the_tables(page):
    text = words_of(page)
    found = both_levels()
    latencies = [name for name in found["AVX2"] if name.startswith("latency_")]
    steps = {level: span_of(rows, trained()) for level, rows in found.items()}
    calls = {level: span_of(rows, latencies) for level, rows in found.items()}
    shares = {level: span(memory(level)) for level in LEVELS}
    sentences = [
        f"**A training step** takes {steps['AVX2']} of the time of the fastest of the four with AVX2, and {steps['AVX-512']} "
        "with AVX-512.",
        f"**Training** uses {shares['AVX2']} of the memory of the smallest of the four with AVX2, and "
        f"{shares['AVX-512']} with AVX-512.",
        f"**`predict` of one sample** takes {calls['AVX2']} of the time of the fastest of ONNX Runtime, LiteRT and OpenVINO "
        f"with AVX2, and {calls['AVX-512']} with AVX-512.",
        f"**`import nbkeras`** takes {found['AVX-512']['import'][0]:.2f} s.",
    ]
    for sentence in sentences:
        assert sentence in text
    begin, end = text.index("- **A training step**"), text.index("JAX, ONNX Runtime and LiteRT used")
    assert text[begin:end].split() == " ".join(f"- {sentence}" for sentence in sentences).split(), "no other figures"


def test_the_wait_of_a_first_program_is_that_of_the_table():
    columns, rows = next(tables("first program"))
    assert [column.partition(",")[0] for column in columns] == [
        "network",
        "wheel",
        "wheel",
        "clone",
        "clone",
        "clone",
        "second epoch",
    ]
    times = [[float(cell) for cell in cells] for cells in rows.values()]
    wheel, clone = [x for row in times for x in row[:2]], [x for row in times for x in row[2:4]]
    text = words_of("README.md")
    assert f"A first program compiles for {min(clone):.0f} to {max(clone):.0f} seconds" in text
    assert f"a first epoch then takes {span(wheel)} seconds" in text
    assert f"{min(clone):.0f} to {max(clone):.0f} seconds for a first model" in words_of("docs/install.md")


@pytest.mark.parametrize("page", FIRST_PAGES)
def test_training_takes_less_time_and_memory_than_each_peer(page):
    networks = trained()
    assert f"in all {len(networks)} networks of the chart, training takes less time and less memory" in words_of(page)
    for level in LEVELS.values():
        _, found = MAKER["training_tables"](text_of("docs/benchmarks.md"), level)
        for table in (found["time"], found["memory"]):
            assert sorted(table) == sorted(networks)
            assert all(min(MAKER["ratios"](table, peer)) > 1 for peer in MAKER["PEERS"])


def test_the_summary_of_the_benchmarks_is_that_of_the_tables():
    found = both_levels()
    rows = found["AVX2"]
    small = span_of(rows, ["lstm_stateful", "lstm_stack", "headline"])
    convolutional = span_of(rows, ["cnn", "unet", "resnet8", "mobilenet", "ds_cnn", "wake_word"])
    one = {name: f"{rows[name][1]:.2f}" for name in ("transformer", "tweets", "lstm_imdb", "autoencoder", "mlp")}
    calls = [figures[0] for name, figures in rows.items() if name.startswith("latency_")]
    ratios = {name: float(cells[-1]) for name, cells in next(tables("layers"))[1].items()}
    optimizers = [ratio for name, ratio in ratios.items() if "(" not in name]
    layers = [ratio for name, ratio in ratios.items() if "(" in name]
    assert (
        f"a training step takes {small} of the time for LSTMs with small layers or embeddings, {one['transformer']} for a small "
        f"Transformer, {convolutional} for the convolutional networks of MLPerf Tiny, a CNN and a U-Net, {one['tweets']} and "
        f"{one['lstm_imdb']} for LSTMs of 64 and 128 units, {one['autoencoder']} for a dense autoencoder and {one['mlp']} for a "
        f"plain MLP; with AVX-512 {span_of(found['AVX-512'], trained())}. `predict` of one sample takes {min(calls):.0f} to "
        f"{max(calls):.0f} us with AVX2. Measured separately, {sum(ratio < 1 for ratio in layers)} layers and "
        f"{sum(ratio < 1 for ratio in optimizers)} of {len(optimizers)} optimizers take less time"
    ) in words_of("docs/benchmarks.md")


def test_the_chart_is_drawn_from_the_tables():
    assert MAKER["main"](["--check"]) == 0, "run scripts/make_front_chart.py"
    changed = text_of("docs/benchmarks.md").replace("| ms a step | 2.41 | 3.41 |", "| ms a step | 2.41 | 3.51 |")
    assert MAKER["chart"](changed) != text_of("docs/front.svg")
    assert MAKER["chart"](changed).count("<circle") == 2 * 2 * len(MAKER["PEERS"]) * len(trained())


def test_the_chart_refuses_a_ratio_outside_of_its_axis():
    with pytest.raises(ValueError, match="a ratio of 0.50 is outside of the axis, 1 to 24: change FIRST or LAST"):
        MAKER["place"](0.5)


def without_numbers(svg):
    """The last picture of a recording, without spaces and without its numbers and units of time, which change in each run."""
    lines = re.findall(r"<text (.*?)>(.*)</text>", svg)
    shown = "".join(
        re.sub(r"<.*?>", "", text) for attributes, text in lines if "passing" not in attributes and text != "…"
    )
    text = re.sub(r"\s|--port \d+", "", html.unescape(shown))
    return re.sub(r"N(us|ms|s)/step", "N/step", re.sub(r"\d+(\.\d+)?(e-?\d+)?", "N", text))


@pytest.mark.process
@pytest.mark.cpu("the recording is of the CPU")
@pytest.mark.skipif(
    sys.platform != "linux" or not shutil.which("curl"), reason="nbkeras serve needs Linux, the script curl"
)
def test_the_recorded_terminal_shows_what_the_commands_print(tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, ROOT / "scripts" / "make_terminal.py", "--port", str(port), tmp_path / "terminal.svg"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    made = without_numbers((tmp_path / "terminal.svg").read_text(encoding="utf-8"))
    recorded = without_numbers(text_of("docs/terminal.svg"))
    assert made == recorded, "run scripts/make_terminal.py"
