"""Studies of GPUs: each kernel separately, and whether networks learn the same on GPU and CPU."""

import contextlib
import sys
from typing import Any

from benchmarks import kernel_cases
from benchmarks.kernel_cases import Case
from benchmarks.runners import FOLDER, Failed, Missing, Process
from benchmarks.session import Session
from benchmarks.workloads import BATCH_NORMALIZED, WORKLOADS

Table = dict[str, Any]
SCRIPTS = {
    "nbkeras": "run_kernels.py",
    "nbkeras-cublas": "run_kernels.py",
    "torch": "run_kernels_torch.py",
    "torch-tf32": "run_kernels_torch.py",
}
CLOSE = 1e-3  # relative to the largest number: sums of thousands of products in different orders
STEPS = 20


class Kernels:
    """The processes that measure kernels, one for each framework. A failed process is restarted for the next case."""

    def __init__(self, session: Session):
        self._session, self._processes = session, contextlib.ExitStack()
        self._size = "smallest" if session.options.quick else "all"
        self._running: dict[str, Process] = {}
        self.versions: dict[str, str] = {}
        peers = session.options.peers
        wanted = ["nbkeras", *(["nbkeras-cublas"] if peers else []), *(peer for peer in peers if peer in SCRIPTS)]
        self.frameworks = [framework for framework in wanted if self._start(framework)]

    def _start(self, framework: str) -> bool:
        session = self._session
        python = session.python("nbkeras" if framework == "nbkeras-cublas" else framework)
        command = [python, str(FOLDER / SCRIPTS[framework]), framework, self._size, session.options.device]
        process = session.attempt(framework, lambda: Process(framework, command, session.environment()))
        if process is None:
            return False
        self._running[framework] = self._processes.enter_context(process)
        self.versions |= process.ready["versions"]
        return True

    def ask(self, framework: str, request: str) -> dict[str, Any]:
        """A framework's results: {'seconds', 'marks', 'how'}, {} if it has no such kernel, or {'failed': reason}."""
        if framework not in self._running and not self._start(framework):
            return {"failed": "the process could not be started again"}
        process = self._running[framework]
        try:
            process.ask(request)
            found = process.answer()
        except (Failed, Missing, OSError) as error:
            found = {"failed": str(error)}
        if "failed" in found:
            del self._running[framework]  # after an error on the GPU the process cannot use it again
            process.close()
        return found

    def close(self) -> None:
        self._processes.close()


def equal(marks: list, others: list) -> bool:
    """Whether two frameworks computed the same numbers."""
    for mine, theirs in zip(marks, others, strict=True):
        largest = max(map(abs, theirs)) or 1.0
        if len(mine) != len(theirs) or not all(
            abs(a - b) <= CLOSE * largest for a, b in zip(mine, theirs, strict=True)
        ):
            return False
    return True


def _microseconds(answer: dict[str, Any]) -> float | str | None:
    return answer["seconds"] * 1e6 if "seconds" in answer else "failed" if "failed" in answer else None


def row(case: Case, found: dict[str, dict], card: dict[str, Any], frameworks: list[str]) -> list:
    """A case's row of the table."""
    own, torch = found["nbkeras"], found.get("torch", {})
    times = [_microseconds(found[framework]) for framework in frameworks]
    if "seconds" not in own:
        return [case.name, *times, *[None] * 7]
    by_bytes = case.bytes / max(card["copy kernel"], card["driver's copy"])
    floor = max(by_bytes, case.flops / card["rate"])
    share = torch["seconds"] / own["seconds"] if "seconds" in torch else None
    same = None
    if "marks" in torch and case.kind != "dropout":  # frameworks draw different random numbers
        same = "yes" if equal(own["marks"], torch["marks"]) else "NO"
    what = "bytes" if floor == by_bytes else "flops"
    return [case.name, *times, share, own["how"], torch.get("how"), floor * 1e6, what, own["seconds"] / floor, same]


def kernels(session: Session) -> list[Table]:
    """Each kernel separately, compared with cuBLAS and cuDNN and with the GPU's highest bandwidth and rate."""
    processes, rows, raw = Kernels(session), [], {}
    try:
        card = processes.ask("nbkeras", "card")
        if "failed" in card:
            raise Failed(card["failed"])
        limits = [[name, value / 1e9 if isinstance(value, float) else str(value)] for name, value in card.items()]
        limits += [[name, version] for name, version in processes.versions.items()]
        columns = ["kernel", *(f"{framework}, us" for framework in processes.frameworks)]
        columns += ["torch / nbkeras", "ours by", "torch by", "floor, us", "bound by", "/ floor", "equal to torch"]
        tables = [
            {"title": "The GPU's limits, GB/s and GF/s", "columns": ["limit", "measured"], "rows": limits},
            {"title": "A kernel's time", "columns": columns, "rows": rows, "seconds": raw},
        ]
        for number, case in enumerate(kernel_cases.cases(session.options.quick)):
            found = {framework: processes.ask(framework, str(number)) for framework in processes.frameworks}
            for framework, answer in found.items():
                if "failed" in answer:
                    session.failures[f"kernels: {case.name} in {framework}"] = answer["failed"][-2000:]
            rows.append(row(case, found, card, processes.frameworks))
            raw[case.name] = {framework: answer.get("seconds") for framework, answer in found.items()}
            print(f"  {case.name}: {raw[case.name]}", file=sys.stderr, flush=True)
            session.so_far("kernels", tables)
        return tables
    finally:
        processes.close()


def equality(session: Session) -> list[Table]:
    """The losses of the first 20 training steps on the GPU and on the CPU, of networks without batch normalization."""
    rows: list[list] = []
    steps = 2 if session.options.quick else STEPS
    columns = ["workload", "worst difference", "first, CPU", "first, GPU", "last, CPU", "last, GPU"]
    table = {"title": f"Losses of the first {steps} steps, relative difference", "columns": columns, "rows": rows}
    left_out = ("toy", *BATCH_NORMALIZED)
    trained = [name for name, workload in WORKLOADS.items() if workload.kind == "train" and name not in left_out]
    for name in ("toy",) if session.options.quick else trained:
        losses = []
        try:
            for device in ("cpu", session.options.device):
                with session.start("nbkeras", name, steps, device) as runner:
                    losses.append(runner.first_losses(steps))
        except Failed as error:
            session.failures[f"equality: {name}"] = str(error)[-2000:]
            continue
        cpu, gpu = losses
        worst = max(abs(a - b) / abs(b) for a, b in zip(gpu, cpu, strict=True))
        rows.append([name, worst, cpu[0], gpu[0], cpu[-1], gpu[-1]])
        session.so_far("equality", [table])
    return [table]
