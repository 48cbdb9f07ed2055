"""Requests of one model, and wrk, which sends them."""

import functools
import http.client
import json
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

SCRIPT = Path(__file__).parent / "post.lua"


class Body:
    """A request for one row, in JSON or with the tensor as bytes after the JSON (the protocol's binary extension)."""

    def __init__(self, folder: str, name: str, x: np.ndarray, is_binary: bool):
        tensor: dict[str, Any] = {"name": name, "shape": list(x.shape), "datatype": "FP32"}
        self.json_bytes = None
        if is_binary:
            tensor["parameters"] = {"binary_data_size": x.nbytes}
            head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
            self.json_bytes, self.content = len(head), head + x.tobytes()
        else:
            # float() of the shortest digits of a float32, as clients in other languages send
            tensor["data"] = [float(str(value)) for value in x.ravel()]
            self.content = json.dumps({"inputs": [tensor]}).encode()
        self.type = "application/octet-stream" if is_binary else "application/json"
        self.file = Path(folder) / f"body-{name}-{id(self)}"
        self.file.write_bytes(self.content)

    def answer(self, port: int, path: str) -> np.ndarray:
        """The first output in a server's answer; ConnectionError while it loads its model."""
        headers = {"Content-Type": self.type}
        if self.json_bytes is not None:
            headers["Inference-Header-Content-Length"] = str(self.json_bytes)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
        try:
            connection.request("POST", path, self.content, headers)
            response = connection.getresponse()
            received = response.read()
        finally:
            connection.close()
        if response.status != 200:
            is_early = response.status in (404, 503) or b"not ready" in received
            raise (ConnectionError if is_early else RuntimeError)(
                f"{path} was answered {response.status}: {received[:300]!r}"
            )
        length = int(response.headers.get("Inference-Header-Content-Length") or len(received))
        output = json.loads(received[:length])["outputs"][0]
        flat = np.array(output["data"], "float32") if "data" in output else np.frombuffer(received[length:], "<f4")
        return flat.reshape(output["shape"])


def wrk(
    port: int, path: str, body: Body, connections: int, seconds: int, processors: Sequence[int], delay: float = 0.0
) -> dict[str, float]:
    """Load for some seconds: {seconds, requests, p50, p99 (us), broken, refused, late}.

    processors: wrk's processors. delay: the mean milliseconds that a connection waits between an answer and its next request.
    """
    environment = os.environ | {"BODY": str(body.file), "CONTENT_TYPE": body.type, "MEAN_DELAY": str(delay)}
    if body.json_bytes is not None:
        environment["JSON_BYTES"] = str(body.json_bytes)
    options = [
        "-t",
        "1",
        "-c",
        str(connections),
        "-d",
        f"{seconds}s",
        "--timeout",
        "30s",
        "--latency",
        "-s",
        str(SCRIPT),
    ]
    command = ["wrk", *options, f"http://127.0.0.1:{port}{path}"]
    pinned = functools.partial(os.sched_setaffinity, 0, processors)
    done = subprocess.run(command, env=environment, capture_output=True, text=True, preexec_fn=pinned)
    if done.returncode:
        raise RuntimeError(f"wrk failed: {done.stdout}{done.stderr}")
    return json.loads(done.stdout.splitlines()[-1])


def version() -> str:
    """wrk's version."""
    try:
        said = subprocess.run(["wrk", "-v"], capture_output=True, text=True).stdout
    except FileNotFoundError:
        raise SystemExit("this needs wrk: apt-get install wrk") from None
    return said.split()[1].removeprefix("debian/")
