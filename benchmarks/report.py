"""Results as plain text, and as the tables of docs/benchmarks.md, so that nobody copies figures by hand.

A table is {"title", "columns", "rows"}; a cell is a string, a number, or None if nothing was measured.
"""

import math
import os
import re
from typing import Any

from benchmarks.levels import NOT_TOLD
from benchmarks.runners import SCRIPTS
from benchmarks.workloads import WORKLOADS

UNITS = {"train": "ms a step", "latency": "us a call", "throughput": "s", "start": "s", "import": "s"}
SCALES = {"train": 1e3, "latency": 1e6}
PREDICTION = ("latency", "throughput")


def figure(value: Any) -> str:
    """A cell as a string: floats to three digits, integers in full."""
    if value is None:
        return ""
    if not isinstance(value, float):
        return f"{value:,}" if isinstance(value, int) else str(value)
    if value == 0 or not math.isfinite(value):
        return str(value)
    return f"{value:,.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def as_text(table: dict[str, Any]) -> str:
    """The table as plain text under its title, with the first column aligned to the left."""
    rows = [table["columns"], *([figure(cell) for cell in row] for row in table["rows"])]
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    lines = [table["title"]]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        lines.append("  ".join(["", first.ljust(widths[0]), *cells]).rstrip())
    return "\n".join(lines)


def as_markdown(columns: list[str], rows: list[list]) -> str:
    """The table in Markdown."""
    texts = [any(isinstance(row[i], str) for row in rows) for i in range(len(columns))]
    lines = [columns, ["---" if text else "---:" for text in texts]]
    lines += [[figure(cell) for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def peers_of(results: dict[str, dict]) -> dict[str, dict]:
    return {name: values for name, values in results.items() if not name.startswith("nbkeras")}


def best_peer(results: dict[str, dict], key: str = "median") -> float | None:
    """The minimum of the peers' figures, in seconds or MB; only of peers with the same precision as nbkeras."""
    peers = [values for name, values in peers_of(results).items() if name != "torch-tf32"]
    return min((values[key] for values in peers if values.get(key) is not None), default=None)


def own(results: dict[str, dict], key: str = "median") -> float:
    """The minimum of nbkeras's figures with its default threads and with one."""
    return min(results[name][key] for name in ("nbkeras", "nbkeras-1") if name in results)


def ratio(value: float, best: float | None) -> float | None:
    return value / best if best else None


def workload_table(name: str, results: dict[str, dict]) -> dict[str, Any]:
    """All results of one workload. The median of latencies is their p50."""
    workload = WORKLOADS[name]
    scale, unit = SCALES.get(workload.kind, 1), UNITS[workload.kind]
    first = next(iter(results.values()))
    title = f"{name}: {workload.title}"
    if "parameters" in first:
        title += f"; batch {workload.batch}; {first['parameters']:,} parameters"
    best = best_peer(results)
    rows = []
    for framework, values in results.items():
        row = [framework, values["median"] * scale, f"{values['spread']:.1%}", values["p99"] * scale]
        row.append(ratio(values["median"], best))
        row += [values.get(key) for key in ("first", "peak", "imported", "data")]
        rows.append([*row, values["losses"][-1] if values.get("losses") else None])
    columns = ["", unit, "spread", "p99", "/ best peer", "first, s", "peak, MB", "import, MB", "data, MB", "loss"]
    if first.get("gpu") is not None:
        columns.append("GPU, MB")
        rows = [[*row, values.get("gpu")] for row, values in zip(rows, results.values(), strict=True)]
    return {"title": title, "columns": columns, "rows": rows}


def versions(report: dict[str, Any]) -> str:
    """The versions of all measured frameworks."""
    found: dict[str, str] = dict(report.get("versions", {}))
    for results in report["workloads"].values():
        for values in results.values():
            found |= values.get("versions", {})
    return ", ".join(f"{name} {version}" for name, version in sorted(found.items()))


def level_of(report: dict[str, Any]) -> str:
    """The level of vector instructions of a run."""
    return f"level {report['machine'].get('level', 'not recorded')}"


def circumstances(report: dict[str, Any]) -> str:
    """Machine, load, level, versions and settings as one paragraph."""
    machine, settings = report["machine"], report["settings"]
    load = "" if machine["load"] is None else f", load {machine['load']:.2f} before the run"
    on = f" on {machine['date']}" if "date" in machine else ""
    gpu = f"{machine['gpu']}; " if machine.get("gpu") else ""
    text = f"Measured{on}: {gpu}{machine['cpu']}, {machine['cores']} cores{load}; {level_of(report)}"
    text += f"; Python {machine['python']}, {machine['system']}"
    text += f"; {settings['rounds']} rounds"
    text += f"; {versions(report)}." if versions(report) else "."
    if report.get("disturbed"):
        text += (
            f" The processors were disturbed during {report['disturbed']} of {report['rounds']} rounds of frameworks."
        )
    if settings.get("level") and settings.get("peers"):
        text += f" All processes got the level, but {NOT_TOLD}."
    if report.get("left out"):
        text += f" Left out: {'; '.join(sorted(set(report['left out'])))}."
    return text + (f" Failed: {', '.join(report['failures'])}." if report.get("failures") else "")


# -------------------- the document --------------------


def times(workloads: dict[str, dict], frameworks: list[str]) -> str:
    """A row for each workload; for latencies one for p50 and one for p99."""
    rows: list[list] = []
    for name, results in workloads.items():
        workload = WORKLOADS[name]
        scale, unit = SCALES.get(workload.kind, 1), UNITS[workload.kind]
        for key in ("median", "p99") if workload.kind == "latency" else ("median",):
            title = f"{name}: {workload.title}"
            if workload.kind == "latency":
                title += ", p50" if key == "median" else ", p99"
            elif workload.network:
                title += f", batch {workload.batch}"
            cells = [results[framework][key] * scale if framework in results else None for framework in frameworks]
            rows.append([title, unit, *cells, ratio(own(results, key), best_peer(results, key))])
        for what, values in results.items():
            if what.startswith("nbkeras") and what not in SCRIPTS:
                others = [None] * len(frameworks)
                rows.append([f"{name}: {what}", unit, values["median"] * scale, *others])
    return as_markdown(["workload", "unit", *frameworks, "nbkeras / best peer"], rows)


def by_level(reports: list[dict[str, Any]]) -> str:
    """A row for each workload of runs at several levels: nbkeras's time and its ratio to the best peer's at each."""
    where = [f"{level_of(each)}: {each['machine']['cpu']}, {each['machine'].get('date', '')}" for each in reports]
    columns = ["workload", "unit"]
    for report in reports:
        columns += [f"nbkeras, {level_of(report)}", "/ best peer"]
    rows = []
    for name in dict.fromkeys(name for report in reports for name in report["workloads"]):
        row: list = [name, UNITS[WORKLOADS[name].kind]]
        for report in reports:
            results = report["workloads"].get(name)
            value = own(results) if results else None
            scale = SCALES.get(WORKLOADS[name].kind, 1)
            row += [value * scale, ratio(value, best_peer(results))] if results else [None, None]
        rows.append(row)
    return f"{'; '.join(where)}:\n\n{as_markdown(columns, rows)}"


def gpu_memory(workloads: dict[str, dict], frameworks: list[str]) -> str:
    """The peak GPU memory of each framework's arrays."""
    rows = []
    for name, results in workloads.items():
        if results["nbkeras"].get("gpu") is not None:
            cells = [results.get(framework, {}).get("gpu") for framework in frameworks]
            rows.append([name, *cells, ratio(results["nbkeras"]["gpu"], best_peer(results, "gpu"))])
    return as_markdown(["peak GPU memory, MB", *frameworks, "nbkeras / best peer"], rows) if rows else ""


def memory(workloads: dict[str, dict], frameworks: list[str]) -> str:
    """The peak memory of processes, the size of the data, and in the last row the memory after the import."""
    measured = {name: results for name, results in workloads.items() if "peak" in results["nbkeras"]}
    if not measured:
        return ""
    rows: list[list] = []
    for name, results in measured.items():
        cells = [results.get(framework, {}).get("peak") for framework in frameworks]
        data = results["nbkeras"].get("data")
        rows.append([name, data, *cells, ratio(own(results, "peak"), best_peer(results, "peak"))])
    alone: list = []
    for framework in frameworks:
        found = [results[framework].get("imported") for results in measured.values() if framework in results]
        alone.append(min((each for each in found if each is not None), default=None))
    if any(alone):
        rows.append(["after the import alone", None, *alone, None])
    return as_markdown(["peak memory, MB", "data", *frameworks, "nbkeras / best peer"], rows)


def workloads_section(report: dict[str, Any]) -> str:
    """The name of the document's section with the workloads; the GPU and the CPU have different sections."""
    return "gpu-workloads" if report["settings"].get("device") == "cuda" else "workloads"


def workload_tables(workloads: dict[str, dict]) -> list[str]:
    """The tables of training, and the tables of prediction, which has other peers."""
    tables = []
    for prediction in (False, True):
        some = {name: each for name, each in workloads.items() if (WORKLOADS[name].kind in PREDICTION) == prediction}
        frameworks = [name for name in SCRIPTS if any(name in results for results in some.values())]
        if some:
            tables += [times(some, frameworks), memory(some, frameworks), gpu_memory(some, frameworks)]
    return tables


def sections(reports: list[dict[str, Any]]) -> dict[str, str]:
    """Sections of the document by name: one with the workloads, and one for each study; each has all levels."""
    found: dict[str, list[str]] = {}
    for report in reports:
        if report["workloads"]:
            tables = [circumstances(report), *workload_tables(report["workloads"])]
            found.setdefault(workloads_section(report), []).extend(filter(None, tables))
        for name, tables in report.get("studies", {}).items():
            parts = [f"{table['title']}:\n\n{as_markdown(table['columns'], table['rows'])}" for table in tables]
            found.setdefault(name, []).extend([circumstances(report), *parts])
    for name, parts in found.items():
        several = [report for report in reports if report["workloads"] and workloads_section(report) == name]
        if len(several) > 1:
            parts.insert(0, by_level(several))
    return {name: "\n\n".join(parts) for name, parts in found.items()}


def write_markdown(path: str, reports: list[dict[str, Any]], pictures: dict[str, str]) -> None:
    """Write each section between its two comments in a document, or at its end, and leave the rest unchanged.

    reports: of several levels, which share the sections. pictures: files by the section that includes them.
    """
    text = ""
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            text = file.read()
    for name, content in sections(reports).items():
        if name in pictures:
            link = os.path.relpath(pictures[name], os.path.dirname(path) or ".")
            content += f"\n\n![{name}]({link})"
        begin, end = f"<!-- begin {name} -->", f"<!-- end {name} -->"
        if begin not in text:
            text = (text and text.rstrip() + "\n\n") + f"{begin}\n{end}\n"
        pattern = re.escape(begin) + ".*?" + re.escape(end)
        block = f"{begin}\n{content}\n{end}"
        text = re.sub(pattern, lambda _, block=block: block, text, count=1, flags=re.DOTALL)
    with open(path, "w", encoding="utf-8") as file:
        file.write(text)
