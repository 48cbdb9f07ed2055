"""python -m benchmarks [workload or study ...] [--device cuda] [--peers keras-jax,torch,...] [--python PATH] [--json FILE]
    [--level x86-64-v3]

Runs each workload in nbkeras and in each installed peer, in one process per framework, with alternating rounds, and prints the
median times of nbkeras and of the best peer. The first epoch, which compiles kernels, is reported separately. Studies (scaling,
neighbour, ...) run only if they are named. --markdown and --plot write the tables and pictures of docs/benchmarks.md, after a run
or --from the file of an earlier run. --level limits the instructions of all frameworks that support it; the results of two levels
become one table. With --device cuda all frameworks compute on one GPU; the studies of GPUs (kernels, equality) then run too, and
the goals are printed.
"""

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Sequence
from typing import Any

from benchmarks import levels
from benchmarks.goals import derivatives, goals
from benchmarks.gpu_studies import equality, kernels
from benchmarks.loops import loops
from benchmarks.report import as_text, circumstances, level_of, workload_table, write_markdown
from benchmarks.runners import PEERS
from benchmarks.session import Session, machine, own_level
from benchmarks.studies import STUDIES
from benchmarks.workloads import WORKLOADS

CPU_STUDIES = STUDIES | {"loops": loops}
GPU_STUDIES = {"kernels": kernels, "equality": equality}


def for_peers(parser: argparse.ArgumentParser) -> None:
    """Add the options of a comparison."""
    parser.add_argument(
        "--device", choices=list(PEERS), default="cpu", help="the device for all frameworks (default cpu)"
    )
    parser.add_argument("--peers", help="frameworks to compare with, or 'none' (default: all for the device)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[PEER=]PATH",
        help="the Python that has the peers, or this peer, installed (default: this one)",
    )
    parser.add_argument("--plot", metavar="FILE", help="write pictures (.png, .svg): one to FILE, several to FILE-name")
    parser.add_argument("--cold", type=int, help="number of starts with an empty kernel cache (default 2)")


def arguments(argv: list[str] | None, text: str, only: Sequence[str] = ()) -> argparse.Namespace:
    """Parse the command line of a module with this docstring. only: the names that it knows (default: all of them)."""
    studies = "; ".join(f"{name}: {study.__doc__}" for name, study in (CPU_STUDIES | GPU_STUDIES).items())
    usage, description = text.split("\n\n")[:2]
    parser = argparse.ArgumentParser(
        prog=usage.split(" [")[0], description=description, epilog=None if only else studies
    )
    known = only or [*WORKLOADS, *CPU_STUDIES, *GPU_STUDIES]
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all workloads)")
    if only:
        parser.set_defaults(device="cpu", peers="none", python=[], plot=None, cold=0)
    else:
        for_peers(parser)
    parser.add_argument(
        "--level",
        choices=list(levels.VARIABLES),
        default=levels.chosen(os.environ),
        help="use no vector instructions beyond this level (default: NUMBA_CPU_NAME if it is a level, or what the machine has)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all results to this file")
    parser.add_argument(
        "--markdown", metavar="FILE", help="write the tables between their comments in this file, or at its end"
    )
    parser.add_argument(
        "--from", dest="saved", action="append", metavar="FILE", help="measure nothing: use the results of --json FILE"
    )
    parser.add_argument("--rounds", type=int, help="number of rounds; the frameworks take turns in each (default 7)")
    parser.add_argument("--seconds", type=float, help="the minimum seconds of a round (default 0.5)")
    parser.add_argument("--steps", type=int, help="batches per epoch, or calls per round (default: the workload's)")
    parser.add_argument(
        "--quick", action="store_true", help="the smallest settings, only to check that everything runs"
    )
    options = parser.parse_args(argv)
    peers = PEERS[options.device]
    options.peers = [] if options.peers == "none" else options.peers.split(",") if options.peers else list(peers)
    for kind, chosen, possible in (("name", options.names, known), ("peer", options.peers, peers)):
        for name in chosen:
            if name not in possible:
                parser.error(f"unknown {kind} {name!r}: choose from {', '.join(possible)}")
    if options.saved and (options.names or options.json):
        parser.error("--from shows the results of an earlier run: it takes no names and no --json")
    if options.level and not levels.has(own := own_level(), options.level):
        parser.error(f"--level {options.level}: nbkeras compiles for {own} here, which does not have it")
    on_gpu = options.device == "cuda"
    for name in options.names:
        if name in (CPU_STUDIES if on_gpu else GPU_STUDIES):
            parser.error(f"the study {name!r} is one of {'the CPU' if on_gpu else 'GPUs: add --device cuda'}")
    usual = [name for name in WORKLOADS if name != "toy"]
    options.names = options.names or list(only) or [*usual, *(GPU_STUDIES if on_gpu else ())]
    for setting, usual, quick in (("rounds", 7, 1), ("seconds", 0.5, 0.0), ("cold", 2, 0), ("steps", None, 2)):
        if getattr(options, setting) is None:
            setattr(options, setting, quick if options.quick else usual)
    named = [path if "=" in path else f"={path}" for path in options.python]
    options.python = {"": sys.executable} | dict(path.split("=", 1) for path in named)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run the chosen workloads and studies, and print each result when it is ready."""
    report: dict[str, Any] = {
        "machine": machine(options.device, options.level),
        "settings": vars(options),
        "workloads": {},
        "studies": {},
    }
    with tempfile.TemporaryDirectory() as folder, contextlib.closing(Session(options, folder)) as session:
        report |= {"left out": session.left_out, "failures": session.failures}

        def keep(study: str, tables: list) -> None:
            report["studies"][study] = tables
            save(report, options.json)  # the machine may be lost before the end

        session.so_far = keep
        for name in options.names:
            try:
                if name in WORKLOADS:
                    report["workloads"][name] = session.run(name)
                else:
                    report["studies"][name] = (CPU_STUDIES | GPU_STUDIES)[name](session)
            except RuntimeError as error:  # the results of the others are still useful
                print(f"\n{name} failed: {error}", file=sys.stderr, flush=True)
                session.failures[name] = str(error)[-4000:]
            report["rounds"], report["disturbed"] = session.rounds, session.disturbed
            show(report, name)
            save(report, options.json)
    return report


def save(report: dict[str, Any], path: str | None) -> None:
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def saved(paths: list[str]) -> list[dict[str, Any]]:
    """The results of earlier runs: a report for each level, with the machine and settings of its first file."""
    found: dict[str, dict[str, Any]] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        if (merged := found.setdefault(level_of(report), report)) is not report:
            for part in ("workloads", "studies", "failures"):
                merged[part] = merged.get(part, {}) | report.get(part, {})
            for count in ("rounds", "disturbed"):
                merged[count] = merged.get(count, 0) + report.get(count, 0)
    return list(found.values())


def show(report: dict[str, Any], name: str) -> None:
    if name in report["workloads"]:
        print(f"\n{as_text(workload_table(name, report['workloads'][name]))}", flush=True)
    for table in report.get("studies", {}).get(name, ()):
        print(f"\n{name}: {as_text(table)}", flush=True)


def judge(report: dict[str, Any]) -> None:
    """Add the tables of goals that the report has results for, and print them."""
    judged = {"derivatives": derivatives(report)}
    if report["settings"].get("device") == "cuda":
        judged["goals"] = goals(report)
    for name, tables in judged.items():
        if tables:
            report["studies"][name] = tables
            show(report, name)


def main(argv: list[str] | None = None) -> None:
    run(arguments(argv, __doc__), measure)


def run(options: argparse.Namespace, measure: Callable[[argparse.Namespace], dict[str, Any]]) -> None:
    """Measure, or read the files of earlier runs; show the results and write what the options say."""
    if options.plot:
        from benchmarks import plot  # if matplotlib is missing, fail here and not after an hour of measuring
    reports = saved(options.saved) if options.saved else [measure(options)]
    if options.plot and len(reports) > 1:
        sys.exit(
            f"--plot draws one level, and the files have {' and '.join(map(level_of, reports))}: give those of one"
        )
    for report in reports:
        for name in [*report["workloads"], *report.get("studies", {})] if options.saved else ():
            show(report, name)
        judge(report)
        print(f"\n{circumstances(report)}")
    pictures = plot.draw(reports[0], options.plot) if options.plot else {}
    if options.markdown:
        write_markdown(options.markdown, reports, pictures)
    if failures := [name for report in reports for name in report.get("failures", {})]:
        sys.exit(f"failed: {', '.join(failures)}")


if __name__ == "__main__":
    main()
