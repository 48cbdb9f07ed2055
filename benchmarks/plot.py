"""Charts of the results; needs matplotlib."""

from pathlib import Path
from typing import Any

from benchmarks.report import best_peer, figure, peers_of, workloads_section

try:
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
except ModuleNotFoundError:
    raise SystemExit("--plot needs matplotlib: pip install matplotlib, or '.[bench]' in the clone of nbkeras") from None

COLORS = {
    "nbkeras": "#c1272d",
    "nbkeras-1": "#e58a8d",
    "keras-jax": "#4c78a8",
    "keras-tensorflow": "#e0a030",
    "keras-torch": "#b279a2",
    "torch": "#8c6bb1",
    "torch-tf32": "#c9b3e0",
    "torch-compile": "#5a3d80",
    "jax": "#72b7b2",
    "onnxruntime": "#9a9a9a",
    "onnxruntime-1": "#c4c4c4",
    "litert": "#8fbc5a",
    "litert-2": "#55822a",
    "openvino": "#c9a27c",
    "openvino-2": "#8a6239",
}
WIDTH, DPI = 9, 100  # 900 pixels


def new_figure(**settings: Any) -> Any:
    return Figure(dpi=DPI, layout="constrained", **settings)


def draw(report: dict[str, Any], path: str) -> dict[str, str]:
    """Draw the charts: a single one to `path`, several to files named after their section; return the files by section."""
    pictures = {workloads_section(report): ratios} if any(map(peers_of, report["workloads"].values())) else {}
    for name, tables in report.get("studies", {}).items():
        if any("threads" in table for table in tables):
            pictures[name] = sweeps
    file = Path(path)
    names = {name: file if len(pictures) == 1 else file.with_stem(f"{file.stem}-{name}") for name in pictures}
    for name, picture in pictures.items():
        picture(report["workloads"] if picture is ratios else report["studies"][name]).savefig(names[name])
    return {name: str(file) for name, file in names.items()}


def ratios(workloads: dict[str, dict]) -> Any:
    """One chart with a group of bars for each workload: each framework's time as a multiple of the best peer's."""
    present = {name for results in workloads.values() for name in results}
    groups = [
        (name, [framework for framework in COLORS if framework in results]) for name, results in workloads.items()
    ]
    height = 0.145 * sum(len(frameworks) + 1 for _, frameworks in groups) + 1
    picture = new_figure(figsize=(WIDTH, height))
    axes = picture.subplots()
    y, ticks = 0, []
    for name, frameworks in groups:
        best = best_peer(workloads[name])
        if best is None:
            continue
        ticks.append((y + (len(frameworks) - 1) / 2, name))
        for framework in frameworks:
            times = workloads[name][framework]["median"] / best
            axes.barh(y, times - 1, left=1, height=0.9, color=COLORS[framework])
            axes.plot(times, y, "o", color=COLORS[framework], markersize=4)
            left = times < 1
            weight = "bold" if framework == "nbkeras" else "normal"
            style = {"fontsize": 7, "va": "center", "ha": "right" if left else "left", "fontweight": weight}
            place = {"textcoords": "offset points", "xytext": (-3 if left else 3, 0)}
            axes.annotate(figure(times), (times, y), **place, **style)
            y += 1
        y += 1
    axes.set_xscale("log")
    axes.margins(x=0.12, y=0.01)
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_yticks([tick for tick, _ in ticks], [name for _, name in ticks], fontsize=9)
    axes.tick_params(axis="y", length=0)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("time / best peer's time (less is better)", fontsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    handles = [Patch(color=color, label=name) for name, color in COLORS.items() if name in present]
    picture.legend(handles=handles, loc="outside upper center", ncols=min(len(handles), 7), fontsize=8, frameon=False)
    return picture


def sweeps(tables: list[dict[str, Any]]) -> Any:
    """A panel for each table of times by number of threads: logarithmic axes, floors dashed, cliffs marked by a ring."""
    tables = [table for table in tables if "threads" in table]
    rows = -(-len(tables) // 2)
    picture = new_figure(figsize=(WIDTH, 3.2 * rows))
    panels = picture.subplots(rows, 2, squeeze=False).flat
    for table, axes in zip(tables, panels, strict=False):
        sizes = [row[0] for row in table["rows"]]
        for i, (threads, color) in enumerate(zip(table["threads"], COLORS.values(), strict=False)):
            times, floors = ([row[column] for row in table["rows"]] for column in (3 * i + 1, 3 * i + 2))
            label = f"{threads} thread{'s' * (threads > 1)}"
            axes.plot(sizes, times, "o-", color=color, markersize=3, label=label)
            axes.plot(sizes, floors, "--", color=color, linewidth=1, label="its floor")
            cliffs = [at for at, row in enumerate(table["rows"]) if str(threads) in (row[-1] or "").split(" ")]
            ring = {"color": "black", "markersize": 9, "fillstyle": "none"}
            axes.plot([sizes[at] for at in cliffs], [times[at] for at in cliffs], "o", **ring)
        axes.set_xscale("log", base=2)
        axes.set_yscale("log")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
        axes.set_title(table["title"], fontsize=9)
        axes.set_xlabel(table["columns"][0], fontsize=8)
        axes.set_ylabel("ms a step", fontsize=8)
        axes.tick_params(labelsize=7)
        axes.legend(fontsize=7, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels:
        axes.remove()
    return picture
