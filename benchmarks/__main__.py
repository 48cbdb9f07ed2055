"""python -m benchmarks [workload or study ...] [--device cuda] [--peers keras-jax,torch,...] [--python PATH] [--json FILE]

Runs each workload in nbkeras and in each peer that is installed, one process each, rounds taking turns, and prints the
median time beside the best peer's. The first epoch, in which kernels are compiled, is reported apart. Studies (scaling,
neighbour, ...) run when they are named. --markdown and --plot write the tables and pictures of docs/benchmarks.md, after a
run or --from the file of an earlier one. With --device cuda all frameworks compute on one GPU; the studies of GPUs (kernels,
equality) are then run too, and the goals are printed.
"""

import argparse
import json
import sys
from typing import Any

from benchmarks.goals import goals
from benchmarks.gpu_studies import equality, kernels
from benchmarks.report import as_text, circumstances, workload_table, write_markdown
from benchmarks.runners import PEERS
from benchmarks.session import Session, machine
from benchmarks.studies import STUDIES
from benchmarks.workloads import WORKLOADS

GPU_STUDIES = {"kernels": kernels, "equality": equality}


def arguments(argv: list[str] | None) -> argparse.Namespace:
    """The command line."""
    studies = "; ".join(f"{name}: {study.__doc__}" for name, study in (STUDIES | GPU_STUDIES).items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__.split("\n\n")[1], epilog=studies)
    known = [*WORKLOADS, *STUDIES, *GPU_STUDIES]
    parser.add_argument("names", nargs="*", metavar="name", help=f"of {', '.join(known)} (default: all workloads)")
    parser.add_argument("--device", choices=list(PEERS), default="cpu", help="where all of them compute (default cpu)")
    parser.add_argument("--peers", help="frameworks to compare with, or 'none' (default: all that the device has)")
    parser.add_argument(
        "--python",
        action="append",
        default=[],
        metavar="[PEER=]PATH",
        help="the interpreter that has the peers, or this peer, installed (default: this one)",
    )
    parser.add_argument("--json", metavar="FILE", help="write all results there")
    parser.add_argument("--markdown", metavar="FILE", help="put the tables between their comments there, or at its end")
    parser.add_argument(
        "--plot", metavar="FILE", help="draw there (.png, .svg): FILE, or FILE-name where there are several"
    )
    parser.add_argument(
        "--from", dest="saved", action="append", metavar="FILE", help="measure nothing: take the results of --json FILE"
    )
    parser.add_argument("--rounds", type=int, help="rounds, in which the frameworks take turns (default 7)")
    parser.add_argument("--seconds", type=float, help="how long a round goes on, at least (default 0.5)")
    parser.add_argument("--steps", type=int, help="batches an epoch, or calls a round (default: the workload's)")
    parser.add_argument("--cold", type=int, help="starts with an empty cache of kernels (default 2)")
    parser.add_argument("--quick", action="store_true", help="the least of everything: shows that it runs, no more")
    options = parser.parse_args(argv)
    peers = PEERS[options.device]
    options.peers = [] if options.peers == "none" else options.peers.split(",") if options.peers else list(peers)
    for kind, chosen, possible in (("name", options.names, known), ("peer", options.peers, peers)):
        for name in chosen:
            if name not in possible:
                parser.error(f"unknown {kind} {name!r}: choose from {', '.join(possible)}")
    if options.saved and (options.names or options.json):
        parser.error("--from shows what an earlier run has measured: it takes no names and no --json")
    on_gpu = options.device == "cuda"
    for name in options.names:
        if name in (STUDIES if on_gpu else GPU_STUDIES):
            parser.error(f"the study {name!r} is one of {'the CPU' if on_gpu else 'GPUs: add --device cuda'}")
    usual = [name for name in WORKLOADS if name != "toy"]
    options.names = options.names or [*usual, *(GPU_STUDIES if on_gpu else ())]
    for setting, usual, quick in (("rounds", 7, 1), ("seconds", 0.5, 0.0), ("cold", 2, 0), ("steps", None, 2)):
        if getattr(options, setting) is None:
            setattr(options, setting, quick if options.quick else usual)
    named = [each if "=" in each else f"={each}" for each in options.python]
    options.python = {"": sys.executable} | dict(each.split("=", 1) for each in named)
    return options


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Run what is asked for, and print each result as it comes."""
    report: dict[str, Any] = {
        "machine": machine(options.device),
        "settings": vars(options),
        "workloads": {},
        "studies": {},
    }
    session = Session(options)
    report |= {"left out": session.left_out, "failures": session.failures}

    def keep(study: str, tables: list) -> None:
        report["studies"][study] = tables
        save(report, options.json)  # the machine may be gone before the rest is done

    session.so_far = keep
    for name in options.names:
        try:
            if name in WORKLOADS:
                report["workloads"][name] = session.run(name)
            else:
                report["studies"][name] = (STUDIES | GPU_STUDIES)[name](session)
        except RuntimeError as error:  # the others may still be worth the hour
            print(f"\n{name} failed: {error}", file=sys.stderr, flush=True)
            session.failures[name] = str(error)[-4000:]
        show(report, name)
        save(report, options.json)
    return report


def save(report: dict[str, Any], path: str | None) -> None:
    if path:
        with open(path, "w", encoding="utf-8") as file:
            json.dump(report, file, indent=1)


def saved(paths: list[str]) -> dict[str, Any]:
    """Results of earlier runs as one, under the circumstances of the first."""
    whole: dict[str, Any] = {}
    for path in paths:
        with open(path, encoding="utf-8") as file:
            report = json.load(file)
        whole = whole or report
        for part in ("workloads", "studies", "failures"):
            whole[part] = whole.get(part, {}) | report.get(part, {})
    return whole


def show(report: dict[str, Any], name: str) -> None:
    if name in report["workloads"]:
        print(f"\n{as_text(workload_table(name, report['workloads'][name]))}", flush=True)
    for table in report.get("studies", {}).get(name, ()):
        print(f"\n{name}: {as_text(table)}", flush=True)


def main(argv: list[str] | None = None) -> None:
    options = arguments(argv)
    if options.plot:
        from benchmarks import plot  # fails here, and not after an hour of measuring
    if options.saved:
        report = saved(options.saved)
        for name in [*report["workloads"], *report.get("studies", {})]:
            show(report, name)
    else:
        report = measure(options)
    if report["settings"].get("device") == "cuda":
        report["studies"]["goals"] = goals(report)
        show(report, "goals")
    print(f"\n{circumstances(report)}")
    pictures = plot.draw(report, options.plot) if options.plot else {}
    if options.markdown:
        write_markdown(options.markdown, report, pictures)
    if report.get("failures"):
        sys.exit(f"failed: {', '.join(report['failures'])}")


if __name__ == "__main__":
    main()
