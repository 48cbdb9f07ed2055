"""Write docs/front.svg, the chart of README.md and of the site's first page, from the tables of docs/benchmarks.md.

    python scripts/make_front_chart.py            write the chart
    python scripts/make_front_chart.py --check    check whether the chart is up to date; the exit code is 1 if not

The chart shows the ratio peer / nbkeras for the time of a training step and for the peak memory, of each network at both levels
of vector instructions. Run the script after `python -m benchmarks --markdown docs/benchmarks.md`; tests/test_front.py compares.
"""

import math
import re
import statistics
import sys
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
CHART = DOCS / "front.svg"

LEVELS = {"x86-64-v3": "AVX2", "x86-64-v4": "AVX-512"}
PEERS = {"keras-jax": "Keras on JAX", "keras-tensorflow": "Keras on TensorFlow", "torch": "PyTorch", "jax": "JAX alone"}
UNITS = {"ms a step": "time", "MB": "memory"}

Table = dict[str, dict[str, float]]


def training_tables(text: str, level: str) -> tuple[str, dict[str, Table]]:
    """The line "Measured on" of a level, and its tables: kind, "time" or "memory" -> network -> framework -> figure."""
    section = text.partition("<!-- begin workloads -->")[2].partition("<!-- end workloads -->")[0]
    part = next(part for part in section.split("Measured on ")[1:] if f"level {level};" in part.partition("\n")[0])
    found: dict[str, Table] = {}
    for lines in re.findall(r"(?:^\|.*\n)+", part, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in lines.splitlines())
        if not set(PEERS) <= set(head):
            continue  # the tables of predictions
        for name, *cells in rows:
            kind = "memory" if head[0] == "peak memory, MB" else UNITS.get(cells[0])
            figures = {
                peer: cell for peer, cell in zip(head[1:], cells, strict=True) if peer == "nbkeras" or peer in PEERS
            }
            if kind and name != "after the import alone":
                numbers = {peer: float(cell.replace(",", "")) for peer, cell in figures.items()}
                found.setdefault(kind, {})[name.partition(":")[0]] = numbers
    return part.partition("\n")[0], found


def ratios(table: Table, peer: str) -> list[float]:
    """The peer's figure divided by nbkeras's, of each network."""
    return [figures[peer] / figures["nbkeras"] for figures in table.values()]


WIDTH, LEFT, RIGHT = 480, 164, 424  # of the picture, few enough for a phone; the plot's ends
ROW, GAP = 19, 14  # of a level; between two peers
FIRST, LAST = 1.0, 24.0  # the axis, logarithmic
TICKS = (1, 2, 5, 10, 20)
STYLE = """
text { font: 15px -apple-system, "Segoe UI", Roboto, Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 18px; font-weight: 600 } .strong { font-weight: 600 } .small { font-size: 14px; fill: #59636e }
.back { fill: #ffffff } .grid { stroke: #d1d9e0 } .one { stroke: #1f2328; stroke-width: 2 }
.AVX2 { fill: #0969da } .AVX-512 { fill: #bc4c00 } .bar { opacity: 0.3 } .dot { opacity: 0.75 }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } .back { fill: #0d1117 } .small { fill: #9198a1 } .grid { stroke: #3d444d } .one { stroke: #f0f6fc }
.AVX2 { fill: #4493f8 } .AVX-512 { fill: #f0883e }
}
"""


def place(ratio: float) -> float:
    """The x of a ratio."""
    if not FIRST <= ratio <= LAST:
        raise ValueError(f"a ratio of {ratio:.2f} is outside of the axis, {FIRST:g} to {LAST:g}: change FIRST or LAST")
    return LEFT + (RIGHT - LEFT) * math.log(ratio / FIRST) / math.log(LAST / FIRST)


def text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    attributes = f' class="{kind}"' if kind else ""
    attributes += f' text-anchor="{anchor}"' if anchor != "start" else ""
    return f'<text x="{x:g}" y="{y:g}"{attributes}>{words}</text>'


def panel(top: float, title: str, tables: dict[str, Table]) -> tuple[list[str], float]:
    """The marks of one kind of figure, and where they end: a bar to the median and a dot for each network."""
    bottom = top + 36 + len(PEERS) * (2 * ROW + GAP)
    parts = [text(12, top + 14, title, "strong"), text(WIDTH - 12, top + 14, "median", "small", "end")]
    for tick in TICKS:
        x = place(tick)
        parts.append(f'<path class="{"one" if tick == 1 else "grid"}" d="M{x:.1f} {top + 26:g}V{bottom - 6:g}"/>')
        parts.append(text(round(x, 1), bottom + 10, f"{tick}×" if tick > 1 else "1", "small", "middle"))
    y = top + 36.0
    for peer, name in PEERS.items():
        parts.append(text(12, y + ROW + 5, name))
        for level in LEVELS.values():
            found = ratios(tables[level], peer)
            end = place(statistics.median(found))
            parts.append(
                f'<rect class="bar {level}" x="{LEFT}" y="{y:g}" width="{end - LEFT:.1f}" height="{ROW - 3}"/>'
            )
            middle = y + (ROW - 3) / 2
            parts += [f'<circle class="dot {level}" cx="{place(one):.1f}" cy="{middle:g}" r="2.6"/>' for one in found]
            parts.append(text(WIDTH - 12, middle + 5, f"{statistics.median(found):.1f}×", level, "end"))
            y += ROW
        y += GAP
    return parts, bottom + 22


def chart(document: str) -> str:
    """The SVG for the text of docs/benchmarks.md."""
    found = {name: training_tables(document, level) for level, name in LEVELS.items()}
    day, machine = re.match(r"(\S+): ([^,]+, \d+ cores)", found["AVX2"][0]).groups()  # type: ignore[union-attr]
    count = len(found["AVX2"][1]["time"])
    parts = [
        text(12, 32, f"Training {count} networks, relative to nbkeras", "title"),
        '<rect class="AVX2" x="12" y="50" width="14" height="14"/>',
        text(32, 62, "AVX2"),
        '<rect class="AVX-512" x="92" y="50" width="14" height="14"/>',
        text(112, 62, "AVX-512"),
    ]
    y = 86.0
    for kind, title in (("time", "Time of a step"), ("memory", "Peak memory")):
        more, y = panel(y, title, {level: tables[kind] for level, (_, tables) in found.items()})
        parts += more
        y += 12
    parts.append(text(12, y + 4, "Longer: slower, or more memory. A dot is a network. Logarithmic.", "small"))
    parts.append(text(12, y + 22, "JAX's products and convolutions use AVX-512 in both cases.", "small"))
    parts.append(text(12, y + 40, f"{machine}, {day}", "small"))
    height = y + 54
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height:g}" width="{WIDTH}" height="{height:g}"'
            ' role="img">',
            "<title>Time and memory of training in Keras, PyTorch and JAX, relative to nbkeras</title>",
            f"<style>{STYLE}</style>",
            f'<rect class="back" width="{WIDTH}" height="{height:g}"/>',
            *parts,
            "</svg>\n",
        ]
    )


def main(arguments: list[str]) -> int:
    """Write or check the chart; returns the exit code."""
    made = chart((DOCS / "benchmarks.md").read_text(encoding="utf-8"))
    if arguments == ["--check"]:
        if made == CHART.read_text(encoding="utf-8"):
            return 0
        print("docs/front.svg is not what docs/benchmarks.md gives: run python scripts/make_front_chart.py")
        return 1
    CHART.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
