"""`nbkeras serve` in processes of its own, seen from outside: its log, its processes, their memory and open files."""

import contextlib
import functools
import http.client
import json
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


def wait_for(condition, seconds=60.0, why=()):
    """What a condition returns when that is true; why: lines that an error shows."""
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "".join(why)
        time.sleep(0.02)
    return found


class LiveServer:
    """`nbkeras serve` with a models.toml: `tables` are its [[model]]s, `options` its [server]; the port is a free one.

    script: Python that runs a Supervisor instead. waits: it is made when the server listens.
    """

    def __init__(self, folder, tables=(), script=None, waits=True, **options):
        self.folder = pathlib.Path(folder)
        self.temporary = self.folder / "tmp"  # short: paths of sockets have at most 107 bytes
        self.temporary.mkdir(exist_ok=True)
        self.write(tables, **options)
        command = [
            sys.executable,
            *(["-c", script] if script else ["-m", "nbkeras", "serve", "--config", "models.toml"]),
        ]
        environment = os.environ | {"PYTHONSAFEPATH": "1", "PYTHONUNBUFFERED": "1", "TMPDIR": str(self.temporary)}
        self.process = subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True)
        self.lines, self.may_read = [], threading.Event()
        self.may_read.set()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        if waits and not script:
            try:
                self.log("listening on http")
            except BaseException:
                self.kill()
                raise

    def write(self, tables, **options):
        """Write models.toml."""
        self.options = {"port": 0} | options
        lines = ["[server]", *(f"{name} = {_toml(value)}" for name, value in self.options.items())]
        for table in tables:
            lines += ["[[model]]", *(f"{name} = {_toml(value)}" for name, value in table.items())]
        (self.folder / "models.toml").write_text("\n".join(lines) + "\n")

    def _read(self):
        for line in self.process.stderr:
            self.lines.append(line)
            self.may_read.wait()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.kill()

    def kill(self):
        """End at once, if it has not ended; every process of it."""
        found = processes_below(self.process.pid)
        self.may_read.set()
        if self.process.poll() is None:
            self.process.kill()
        self.end()
        for process in found:
            if process != self.process.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
        self.process.stderr.close()

    def end(self):
        """Wait for the end; the exit code."""
        code = self.process.wait(60)
        self._reader.join(30)
        return code

    def stop(self):
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.end()

    def find(self, pattern, first=0):
        """The matches of a pattern in the log from a line on."""
        return list(re.finditer(pattern, "".join(self.lines[first:])))

    def log(self, pattern, count=1, first=0):
        """The matches of a pattern in the log from a line on, when there are enough of them."""

        def found():
            matches = self.find(pattern, first)
            assert len(matches) >= count or self.process.poll() is None, "".join(self.lines)
            return matches if len(matches) >= count else None

        return wait_for(found, 120, self.lines)

    @functools.cached_property
    def port(self):
        return self.options["port"] or int(self.log(r"listening on http://127\.0\.0\.1:(\d+)")[0][1])

    @functools.cached_property
    def grpc_port(self):
        return int(self.log(r"for gRPC on 127\.0\.0\.1:(\d+)")[0][1])

    def ask(self, path, body=None, **headers):
        """(status, content) of an answer over a connection of its own, which any worker accepts. JSON is read."""
        with self.connected() as connection:
            return asked(connection, path, body, **headers)

    def connection(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def connected(self):
        return contextlib.closing(self.connection())

    def started(self):
        """(index, process) of each worker that was started."""
        return [(int(found[1]), int(found[2])) for found in self.find(r"worker (\d+) started \(process (\d+)\)")]

    def workers(self):
        """The process of each worker, by its index."""
        return dict(self.started())

    def processes(self):
        return processes_below(self.process.pid)

    def left_files(self):
        """Files and folders in the temporary folder, which is the server's own."""
        return sorted(str(path.relative_to(self.temporary)) for path in self.temporary.rglob("*"))

    def tracebacks(self):
        return [line for line in self.lines if "Traceback" in line]


def asked(connection, path, body=None, **headers):
    """(status, content) of the answer over a connection; body: bytes, text, or what JSON is to hold, of a POST."""
    body = body if body is None or isinstance(body, bytes | str) else json.dumps(body)
    given = {"content_type": "application/json"} | headers
    given = {name.replace("_", "-"): str(value) for name, value in given.items()}
    connection.request("GET" if body is None else "POST", path, body, given)
    answer = connection.getresponse()
    content = answer.read()
    is_json = answer.headers["content-type"] == "application/json"
    return answer.status, json.loads(content) if is_json else content


def _toml(value):
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str | os.PathLike):
        return f'"{value}"'
    return str(list(value) if isinstance(value, tuple) else value)
