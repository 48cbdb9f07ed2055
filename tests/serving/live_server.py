"""`nbkeras serve` in processes of its own, seen from outside: its log, its processes, their memory and open files."""

import contextlib
import os
import pathlib
import re
import signal
import subprocess
import sys
import threading
import time


def processes_below(root):
    """The numbers of a process and of all that it has started, by their states."""
    parents = {}
    for name in os.listdir("/proc"):
        if name.isdecimal():
            with contextlib.suppress(OSError):
                fields = pathlib.Path(f"/proc/{name}/stat").read_text().rpartition(")")[2].split()
                parents[int(name)] = fields[0], int(fields[1])
    found = {root: parents[root][0]} if root in parents else {}
    grown = True
    while grown:
        more = {process: state for process, (state, parent) in parents.items() if parent in found}
        grown = not more.keys() <= found.keys()
        found |= more
    return found


def memory_of(process):
    """Bytes of memory that a process uses, its share of what it has in common with others (PSS)."""
    with contextlib.suppress(OSError, AttributeError):
        text = pathlib.Path(f"/proc/{process}/smaps_rollup").read_text()
        return int(re.search(r"^Pss:\s+(\d+) kB", text, re.M)[1]) << 10
    return 0


def open_files(process):
    """How many descriptors a process has open."""
    with contextlib.suppress(OSError):
        return len(os.listdir(f"/proc/{process}/fd"))
    return 0


def clients_of(process, port):
    """The ports of the clients whose connections to a port a process has accepted."""
    inodes = set()
    for name in os.listdir(f"/proc/{process}/fd"):
        with contextlib.suppress(OSError):
            if found := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(f"/proc/{process}/fd/{name}")):
                inodes.add(found[1])
    rows = [line.split() for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]]
    of_port = [row for row in rows if int(row[1].partition(":")[2], 16) == port]
    return {int(row[2].partition(":")[2], 16) for row in of_port if row[9] in inodes}


def old_mappings(process):
    """How many deleted files of models a process has still mapped."""
    with contextlib.suppress(OSError):
        lines = pathlib.Path(f"/proc/{process}/maps").read_text().splitlines()
        return len({line.split()[-2] for line in lines if ".frozen (deleted)" in line})
    return 0


class LiveServer:
    """A server with a models.toml: `tables` are its [[model]]s, `options` its [server]; the port is free ones."""

    def __init__(self, folder, tables, **options):
        self.folder = pathlib.Path(folder)
        self.temporary = self.folder / "tmp"  # short: paths of sockets have at most 107 bytes
        self.temporary.mkdir(exist_ok=True)
        lines = ["[server]", *(f"{name} = {_toml(value)}" for name, value in ({"port": 0} | options).items())]
        for table in tables:
            lines += ["[[model]]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        (self.folder / "models.toml").write_text("\n".join(lines) + "\n")
        environment = os.environ | {
            "PYTHONSAFEPATH": "1",
            "PYTHONUNBUFFERED": "1",
            "TMPDIR": str(self.temporary),
        }
        command = [sys.executable, "-m", "nbkeras", "serve", "--config", "models.toml"]
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        try:
            self.port = int(self.wait_for_line(r"listening on http://127\.0\.0\.1:(\d+)")[1])
            grpc = "grpc_port" in options
            self.grpc_port = int(self.wait_for_line(r"for gRPC on 127\.0\.0\.1:(\d+)")[1]) if grpc else None
        except BaseException:
            self.kill()
            raise

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()

    def kill(self):
        """End at once, if it has not ended; every process of it."""
        found = processes_below(self.process.pid)
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(30)
        for process in found:
            if process != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self._reader.join(30)
        self.process.stderr.close()

    def stop(self, seconds=60):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(seconds)
        self._reader.join(30)
        return code

    def find(self, pattern, first=0):
        """The match of a pattern in a line of the log from a place on, or None."""
        for line in self.lines[first:]:
            if found := re.search(pattern, line):
                return found
        return None

    def wait_for_line(self, pattern, first=0, seconds=120):
        end = time.monotonic() + seconds
        while (found := self.find(pattern, first)) is None:
            if self.process.poll() is not None or time.monotonic() > end:
                raise AssertionError(f"no line {pattern!r} in the log:\n" + "".join(self.lines[-50:]))
            time.sleep(0.02)
        return found

    def workers(self):
        """The process of each worker, by its index."""
        found = {}
        for line in list(self.lines):
            if started := re.search(r"worker (\d+) started \(process (\d+)\)", line):
                found[int(started[1])] = int(started[2])
        return found

    def processes(self):
        return processes_below(self.process.pid)

    def memory(self):
        """Bytes of all processes of the server together."""
        return sum(memory_of(process) for process in self.processes())

    def left_files(self):
        """Files and folders in the temporary folder, which is the server's own."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*"))

    def tracebacks(self):
        return [line for line in self.lines if "Traceback" in line]


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value)
