"""The goals for GPUs and for derivatives of second order, and whether a run reached them."""

from typing import Any

from benchmarks.workloads import SECOND_ORDER, WORKLOADS

GEMM_SHARE, CNN_TIMES, DIFFERENCE = 0.6, 1.5, 1e-4
CONVOLUTIONS = ("cnn", "resnet8", "ds_cnn", "mobilenet", "wake_word", "unet")


def goals(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A table with each goal, its limit, the measured value, and 'pass', 'MISS' or 'not measured'."""
    rows = []

    def judge(goal: str, limit: str, value: float | None, reached: bool) -> None:
        rows.append([goal, limit, value, "not measured" if value is None else "pass" if reached else "MISS"])

    share = _gemm_share(report, "gemm 4096")
    judge("product of 4096 x 4096, cuBLAS's float32 time / ours", f">= {GEMM_SHARE}", share, (share or 0) >= GEMM_SHARE)
    for name, workload in WORKLOADS.items():
        if workload.kind == "train" and name != "toy":
            value = _to_torch(report, name)
            limit = CNN_TIMES if name in CONVOLUTIONS else 1.0
            judge(f"{name}: a training step, ours / PyTorch's", f"<= {limit:g}", value, (value or 0) <= limit)
    for name, worst, *_ in _rows(report, "equality", 0):
        judge(f"{name}: losses on the GPU as on the CPU", f"<= {DIFFERENCE:g}", worst, worst <= DIFFERENCE)
    trained = [
        (f"{name} in {framework}", values["first_loss"], values["losses"][-1])
        for name, results in report["workloads"].items()
        for framework, values in results.items()
        if values.get("losses")
    ]
    idle = [what for what, first, last in trained if not last < first]
    learned = f"MISS: {', '.join(idle)}" if idle else "pass" if trained else "not measured"
    rows.append(["every network learns in every framework", "loss falls", None, learned])
    compared = {line[0]: line[-1] for line in _rows(report, "kernels", 1) if line[-1]}
    differ = [case for case, same in compared.items() if same == "NO"]
    same = f"MISS: {', '.join(differ)}" if differ else "pass" if compared else "not measured"
    rows.append(["kernels compute what PyTorch's do", "1e-3", None, same])
    return [{"title": "Goals", "columns": ["goal", "limit", "measured", "reached"], "rows": rows}]


def derivatives(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A table of the measured steps with derivatives of second order: the goal is to be no slower than PyTorch, eagerly."""
    rows = []
    for name in SECOND_ORDER:
        results = report["workloads"].get(name, {})
        ours, *peers = (results.get(each, {}).get("median") for each in ("nbkeras", "torch", "torch-compile", "jax"))
        if ours is not None:
            eager, compiled, jitted = (ours / peer if peer else None for peer in peers)
            reached = "not measured" if eager is None else "pass" if eager <= 1 else "MISS"
            rows.append([name, ours * 1e3, eager, reached, compiled, jitted])
    columns = ["workload", "ms a step", "/ torch (goal 1)", "reached", "/ torch-compile", "/ jax"]
    title = "Steps with derivatives of second order, ours / the peer's"
    return [{"title": title, "columns": columns, "rows": rows}] if rows else []


def _rows(report: dict[str, Any], study: str, table: int) -> list[list]:
    tables = report["studies"].get(study, [])
    return tables[table]["rows"] if tables else []


def _gemm_share(report: dict[str, Any], case: str) -> float | None:
    """cuBLAS's time, in the faster of PyTorch and nbkeras-cublas, divided by ours."""
    tables = report["studies"].get("kernels", [])
    seconds = tables[1]["seconds"].get(case, {}) if tables else {}
    peers = [seconds[framework] for framework in ("torch", "nbkeras-cublas") if seconds.get(framework)]
    return min(peers) / seconds["nbkeras"] if peers and seconds.get("nbkeras") else None


def _to_torch(report: dict[str, Any], name: str) -> float | None:
    results = report["workloads"].get(name, {})
    if "nbkeras" not in results or "torch" not in results:
        return None
    return results["nbkeras"]["median"] / results["torch"]["median"]
