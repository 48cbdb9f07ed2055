"""Cases in a process of their own, watched: a crash, a hang or too much memory is a finding, and the next case runs.

A worker gets `family first last` on its input, and writes a line before and after each case. Nothing but the family, the seed and
the number decides a case, so one line reproduces it.
"""

import contextlib
import faulthandler
import importlib
import io
import json
import os
import random
import resource
import select
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter

FAMILIES = {
    "objects": "fuzz_objects",
    "ops": "fuzz_ops",
    "training": "fuzz_training",
    "files": "fuzz_files",
    "requests": "fuzz_requests",
    "values": "fuzz_programs",
}
SECONDS = 10  # of processor time for a case
PATIENCE = 60  # seconds of waiting for one that computes nothing
ROOM = 3 << 30  # bytes of addresses above those of a started worker: less than 10**9 numbers take
GROWTH = 1 << 30  # bytes of memory for a case
LIFE = 3000  # cases of a worker; then a new one starts

faulthandler.enable()


class Note:
    """The calls of a case with their arguments, for the reproduction."""

    def __init__(self):
        self.lines = []

    def __call__(self, text):
        self.lines.append(text)

    def __str__(self):
        return "; ".join(self.lines)[:2000]


def run_case(module, chance):
    """Run a case of a module with a function `case`. Returns (result, what it did).

    The result is None, 'refused' for an error that users may get, or a fault in words.
    """
    import numpy as np
    from fuzz_verdict import fault_of, place

    note = Note()
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            importlib.import_module(module).case(chance, note)
    except Exception as error:
        fault = fault_of(error)
        if fault is None:
            return "refused", str(note)
        return f"{fault} [{place(error)}]", str(note)
    return None, str(note)


def chance_of(module, seed, number):
    return random.Random(f"{module} {seed} {number}")


def work(module):
    """The worker: cases of a module as they are asked for, one line of JSON before and after each."""
    channel = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    from nbkeras import config, utils

    config.disable_traceback_filtering()
    importlib.import_module(module)
    channel.write(json.dumps("ready") + "\n")
    now = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (now + ROOM, now + ROOM))
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        for line in sys.stdin:
            seed, first, last = json.loads(line)
            for number in range(first, last):
                channel.write(json.dumps(["begin", number]) + "\n")
                utils.set_random_seed(number)
                before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
                start = time.process_time()
                result, note = run_case(module, chance_of(module, seed, number))
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) << 10
                if grown > GROWTH and (result is None or result == "refused"):
                    result = f"takes {grown >> 20} MB"
                seconds = time.process_time() - start
                channel.write(
                    json.dumps(["end", number, result, note.encode(errors="replace").decode(), seconds]) + "\n"
                )


class Worker:
    def __init__(self, family):
        environment = {**os.environ, "NUMBA_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        self.log = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [sys.executable, os.path.dirname(os.path.abspath(__file__)), "--worker", FAMILIES[family]],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.log,
            env=environment,
        )
        self.buffer = b""
        answer = self.line(PATIENCE)  # it imports nbkeras
        if answer != "ready":
            raise RuntimeError(f"no worker: it {answer}")

    def processor_time(self):
        try:
            with open(f"/proc/{self.process.pid}/stat") as file:
                fields = file.read().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def ask(self, *request):
        self.process.stdin.write((json.dumps(request) + "\n").encode())
        self.process.stdin.flush()

    def line(self, limit=None):
        """The next line, or why there is none. limit: of the processor time; None for SECONDS."""
        limit = SECONDS if limit is None else limit
        used, start = self.processor_time(), time.monotonic()
        while b"\n" not in self.buffer:
            if not select.select([self.process.stdout], [], [], 0.5)[0]:
                hangs = self.processor_time() - used > limit or time.monotonic() - start > PATIENCE
                if hangs:
                    self.process.send_signal(signal.SIGABRT)  # faulthandler writes where it is
                    self.process.wait()
                    return f"hangs: {self.last_words()}"
                continue
            piece = os.read(self.process.stdout.fileno(), 1 << 16)
            if not piece:
                code = self.process.wait()
                return f"crashes with {signal.Signals(-code).name if code < 0 else code}: {self.last_words()}"
            self.buffer += piece
        line, self.buffer = self.buffer.split(b"\n", 1)
        return json.loads(line)

    def last_words(self):
        self.log.seek(0)
        text = self.log.read().decode(errors="replace")
        return " < ".join(line.strip() for line in text.splitlines() if "File" in line or "Error" in line)[-1500:]

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        if self.process.wait() not in (0, -signal.SIGABRT, -signal.SIGKILL):
            pass
        self.log.close()


def campaign(family, seed, cases, first=0, report=print, limit=1000):
    """Run cases of a family. Returns (counts of results, {fault: (number, note)})."""
    counts, found = Counter(), {}
    number, worker, tried = first, None, None
    last = first + cases
    while number < last and len(found) < limit:
        end = min(last, number + LIFE)
        worker = Worker(family)
        worker.ask(seed, number, end)
        running = number
        while number < end:
            answer = worker.line()
            if isinstance(answer, str):
                if answer.startswith("hangs") and tried != running:
                    tried = running  # compiling may have taken the time: once more, with what is compiled now
                    number = running
                    break
                counts["fault"] += 1
                found.setdefault(answer, (running, ""))
                report(f"FAULT {family} seed {seed} case {running}: {answer}")
                report(f"  reproduce: {reproduction(family, seed, running)}")
                number = running + 1
                break
            if answer[0] == "begin":
                running = answer[1]
                continue
            _, number, result, note, _ = answer
            counts["fault" if result not in (None, "refused") else result or "computed"] += 1
            if result not in (None, "refused") and result not in found:
                found[result] = number, note
                report(f"FAULT {family} seed {seed} case {number}: {result}\n  {note}")
                report(f"  reproduce: {reproduction(family, seed, number)}")
            number += 1
        worker.close()
    return counts, found


def reproduction(family, seed, number):
    return f"python tests/fuzz --family {family} --seed {seed} --only {number}"


def show(family, seed, number):
    """Run one case in this process, with its traceback."""
    import numpy as np
    from fuzz_verdict import fault_of

    from nbkeras import config, utils

    config.disable_traceback_filtering()
    module = importlib.import_module(FAMILIES[family])
    utils.set_random_seed(number)
    note = Note()
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        os.chdir(folder)
        try:
            module.case(chance_of(FAMILIES[family], seed, number), note)
            print("computed")
        except Exception as error:
            traceback.print_exc()
            print("fault:", fault_of(error))
    print(note)
