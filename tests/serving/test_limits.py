"""Limits of the machine or container, and memory of processes."""

import mmap
import os
import subprocess
import sys

import pytest

from nbkeras.serving import limits


def quota(tmp_path, processors, memory="max"):
    for name, text in {
        "proc/self/cgroup": "0::/\n",
        "proc/self/mountinfo": "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n",
        "sys/fs/cgroup/cpu.max": f"{int(processors * 1000)} 1000",
        "sys/fs/cgroup/memory.max": str(memory),
    }.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return str(tmp_path)


def test_processors_and_memory_of_a_container(tmp_path):
    assert limits.processors(quota(tmp_path, 1.9)) == 1
    assert limits.memory(quota(tmp_path, 1, 1 << 20)) == 1 << 20
    assert limits.memory(quota(tmp_path, 1)) == limits.memory(str(tmp_path / "none")) > 1 << 28


def test_memory_of_the_process_that_loads(tmp_path):
    assert limits.memory_of_loading(quota(tmp_path, 1, 300 << 20)) == 1 << 30
    assert limits.memory_of_loading(quota(tmp_path, 1, 8 << 30)) == 6 << 30


def test_threads_of_each_worker(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)))
    assert [limits.threads_of_each(workers, quota(tmp_path, 6)) for workers in (1, 2, 4, 7)] == [6, 3, 1, 1]


def test_memory_of_this_process_and_of_another():
    own = limits.memory_of()
    assert own.resident == own.shared + own.private and own.proportional <= own.resident
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert 0 < limits.memory_of(process.pid).resident < own.resident
    process.communicate(b"\n")
    assert limits.memory_of(process.pid) is None


def test_a_mapped_file_counts_as_shared_once_another_process_reads_it(tmp_path):
    size = 32 << 20
    (tmp_path / "weights").write_bytes(b"x" * size)
    with open(tmp_path / "weights", "rb") as file, mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ) as mapped:
        before = limits.memory_of()
        bytes(mapped[:: mmap.PAGESIZE])
        alone = limits.memory_of()
        reading = f"m = mmap.mmap({file.fileno()}, 0, prot=mmap.PROT_READ)\nm[::4096]"
        code = f"import mmap, sys\n{reading}\nprint(flush=True)\nsys.stdin.read()"
        fds = {"pass_fds": [file.fileno()], "stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
        with subprocess.Popen([sys.executable, "-c", code], **fds) as process:
            process.stdout.readline()
            both = limits.memory_of()
            process.stdin.close()
    assert alone.resident - before.resident > 0.9 * size
    assert alone.proportional - both.proportional > 0.4 * size and both.shared > 0.9 * size


def test_without_smaps_the_counts_of_statm_are_taken(tmp_path):
    (tmp_path / "proc" / "self").mkdir(parents=True)
    (tmp_path / "proc" / "self" / "statm").write_text("900 30 10 1 0 5 0\n")
    page = os.sysconf("SC_PAGE_SIZE")
    assert limits.memory_of(root=str(tmp_path)) == (30 * page, 30 * page, 10 * page, 20 * page)


@pytest.mark.process
def test_a_worker_uses_its_part_of_the_processors():
    imports = "import os\nfrom nbkeras.kernels.runtime import threads\nfrom nbkeras.serving import limits"
    affinity = "os.sched_getaffinity = lambda _: set(range(8))"
    environment = os.environ | {"NUMBA_NUM_THREADS": "4", "PYTHONSAFEPATH": "1"}

    def threads(chosen, workers):
        code = f"{imports}\n{affinity}\nlimits.set_threads({chosen}, {workers})\nprint(threads.get_threads())"
        command = [sys.executable, "-c", code]
        return int(subprocess.run(command, env=environment, capture_output=True, check=True).stdout)

    assert (threads(0, 1), threads(0, 4), threads(3, 8)) == (4, 2, 3)


def test_a_process_that_has_ended_has_no_memory():
    with subprocess.Popen([sys.executable, "-S", "-c", ""]) as ended:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert limits.memory_of(ended.pid) is None


def test_free_memory_may_be_given_back_at_any_time():
    limits.give_back_free_memory()


def test_a_system_without_the_functions_of_glibc(monkeypatch):
    monkeypatch.setattr(limits.ctypes, "CDLL", lambda name: object())
    limits.give_back_free_memory()
    limits.keep_no_large_pieces()
