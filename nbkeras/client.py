"""A client of `nbkeras serve`, and of other servers of the Open Inference Protocol (version 2) over HTTP.

It needs the standard library and NumPy. Tensors travel as bytes, by the protocol's binary extension. An answer's sizes are
checked before memory is allocated, so that a broken or hostile server causes an error, and nothing else.
"""

import contextlib
import functools
import http.client
import json
import math
import os
import selectors
import time
import urllib.parse
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

_SIZE = "Inference-Header-Content-Length"  # bytes of the JSON, before the tensors
_MAX_JSON = 1 << 24  # bytes of an answer's JSON, which takes up to 30 times its length while it is read
_KINDS = {"http": http.client.HTTPConnection, "https": http.client.HTTPSConnection}
_DTYPES = {"BOOL": "?", "FP16": "<f2", "FP32": "<f4", "FP64": "<f8"} | {
    f"{name}{8 * size}": f"<{code}{size}" for name, code in (("INT", "i"), ("UINT", "u")) for size in (1, 2, 4, 8)
}


class ServerError(Exception):
    """An error that a server answered, or an answer that makes no sense.

    Args:
        status: The HTTP status; 0 if the answer is no HTTP.
        message: What the server says about the error.
        retry_after: For a status of 503: the seconds after which the request may be sent again, if the server says so.

    Example:
        >>> keras.client.ServerError(404, "model 'n' is not there; models: m")
        ServerError(404, "model 'n' is not there; models: m", None)
    """

    def __init__(self, status: int, message: str, retry_after: int | None = None):
        super().__init__(status, message, retry_after)
        self.status, self.message, self.retry_after = status, message, retry_after

    def __str__(self) -> str:
        return f"{self.message} (status {self.status})"


@dataclass(eq=False)
class Client(contextlib.AbstractContextManager["Client"]):
    """A client of `nbkeras serve`.

    Threads may share it: each request that runs has a connection of its own, which is kept for later requests. `close`, or the
    end of a `with` block, closes the kept connections.

    A prediction is sent again, up to `retries` times, if the server answers 503 with Retry-After of at most `timeout` seconds,
    or closes a kept connection without an answer. A request of a sequence is sent once.

    Args:
        address: `http://host:port` or `https://host:port`.
        timeout: The maximum number of seconds without progress: of connecting, of sending, and between parts of an answer.
        retries: How often a request is sent again.
        max_bytes: The maximum size of an answer in bytes.
        headers: Further headers of each request, such as `Authorization`.

    Raises:
        ValueError: The address is none.

    Example:
        >>> client = keras.client.Client("http://localhost:8000", timeout=5.0)
        >>> client.predict("model", np.array([[1, 2, 3, 4]]))  # doctest: +SKIP
        array([[0.31, 0.42, 0.27]], dtype=float32)
        >>> client.close()
    """

    address: str
    timeout: float = 10.0
    retries: int = 2
    max_bytes: int = 1 << 30
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        parts = urllib.parse.urlsplit(self.address)
        if parts.scheme not in _KINDS or not parts.hostname or parts.port == 0 or parts.path.strip("/"):
            raise ValueError(f"the address must be like http://localhost:8000, and {self.address} is not")
        self._connect = functools.partial(_KINDS[parts.scheme], parts.netloc, timeout=self.timeout)
        self._idle: list[tuple[int, http.client.HTTPConnection]] = []  # with the process that has made it
        self._datatypes: dict[str, dict[str, str]] = {}  # path of a model -> datatypes of its inputs by name

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the kept connections. The client can be used further."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop()[1].close()

    # -------------------- requests --------------------

    def predict(self, model: str, x: Any, version: str | int | None = None, **parameters: Any) -> Any:
        """Predict rows.

        Values are converted to the model's datatypes, which the client asks for once. Integers must fit exactly.

        Args:
            model: The model's name.
            x: An array with all rows, or what NumPy makes one of; for several inputs a dict by name.
            version: The model's version; the newest by default.
            **parameters: The protocol's parameters, such as `sequence_id`, `sequence_start` and `sequence_end` for a model that
                keeps a state (`Client.sequence` chooses them), or `timeout` in microseconds.

        Returns:
            A NumPy array; for several outputs a dict of arrays by name.

        Raises:
            ServerError: The server answers with an error, or not by the protocol.
            ValueError: The inputs do not have the model's names, or values do not fit its datatypes.
            ConnectionError: There is no connection.
            TimeoutError: The server does not answer in time.
        """
        path, tensors, parts = _path_of(model, version), [], []
        for name, datatype, array in self._arrays(path, x):
            parts.append(_bytes(array))
            size = {"binary_data_size": len(parts[-1])}
            tensors.append({"name": name, "datatype": datatype, "shape": array.shape, "parameters": size})
        head = json.dumps({"inputs": tensors, "parameters": {**parameters, "binary_data_output": True}}).encode()
        headers = {"Content-Type": "application/octet-stream", _SIZE: str(len(head))}
        retries = 0 if "sequence_id" in parameters else self.retries
        try:
            answer, data = self._ask(retries, "POST", f"{path}/infer", b"".join([head, *parts]), headers)
        except ServerError:
            self._datatypes.pop(path, None)  # the model may have been swapped
            raise
        outputs = _outputs(data, answer.headers.get(_SIZE))
        return outputs.popitem()[1] if len(outputs) == 1 else outputs

    def sequence(self, model: str, version: str | int | None = None) -> "ModelSequence":
        """A sequence of a model that keeps a state.

        Args:
            model: The model's name.
            version: The model's version; the newest by default.

        Returns:
            A ModelSequence, for a `with` statement.

        Example:
            >>> with client.sequence("steps") as steps:  # doctest: +SKIP
            ...     for step in x:
            ...         y = steps.predict(step)
        """
        return ModelSequence(self, model, version)

    def models(self) -> list[dict[str, str]]:
        """The server's models.

        Returns:
            For each version of each model a dict of `name`, `version`, `state` and `reason`.
        """
        return self._json("POST", "/v2/repository/index")

    def metadata(self, model: str, version: str | int | None = None) -> dict[str, Any]:
        """A model's inputs and outputs.

        Args:
            model: The model's name.
            version: The model's version; the newest by default.

        Returns:
            A dict: `inputs` and `outputs` are lists of dicts of `name`, `datatype` and `shape`, where -1 is any size.
        """
        return self._json("GET", _path_of(model, version))

    def ready(self) -> bool:
        """Whether the server answers that it accepts requests."""
        with contextlib.suppress(OSError, ServerError):
            self._ask(0, "GET", "/v2/health/ready")
            return True
        return False

    def _arrays(self, path: str, x: Any) -> Iterator[tuple[str, str, np.ndarray]]:
        """Name, datatype and array of each input."""
        datatypes = self._datatypes.get(path)
        if datatypes is None:
            with _readable():
                datatypes = {tensor["name"]: tensor["datatype"] for tensor in self._json("GET", path)["inputs"]}
            self._datatypes[path] = datatypes
        if not isinstance(x, Mapping) and len(datatypes) == 1:
            x = dict.fromkeys(datatypes, x)
        if not isinstance(x, Mapping) or x.keys() != datatypes.keys():
            received = f"a dict of {list(x)}" if isinstance(x, Mapping) else type(x).__name__
            raise ValueError(f"the inputs must be a dict of {list(datatypes)}, received {received}")
        return ((name, datatype, _converted(name, datatype, x[name])) for name, datatype in datatypes.items())

    def _json(self, method: str, path: str) -> Any:
        return _parsed(self._ask(self.retries, method, path)[1])

    # -------------------- connections --------------------

    def _ask(self, retries: int, method: str, path: str, body: bytes = b"", headers: Any = ()) -> tuple[Any, bytearray]:
        """The answer of status 200 to a request, and its body."""
        while True:
            kept, answer = self._kept(), None
            connection = kept or self._connect()
            try:
                connection.request(method, path, body, {**self.headers, **dict(headers)})
                answer = connection.getresponse()
                with answer:
                    data = self._body(answer)
            except BaseException as error:
                connection.close()
                if retries and kept and answer is None and isinstance(error, ConnectionError):
                    retries -= 1
                    continue
                if isinstance(error, OSError):
                    kind = TimeoutError if isinstance(error, TimeoutError) else ConnectionError
                    raise kind(f"{self.address}: {error}") from error
                if isinstance(error, http.client.HTTPException):
                    raise ServerError(0, f"the answer is no valid HTTP: {error!r:.200}") from error
                raise
            if connection.sock is not None:  # the server keeps it open
                self._idle.append((os.getpid(), connection))
            if answer.status == 200:
                return answer, data
            refusal = _refusal(answer, data)
            if not retries or refusal.retry_after is None or refusal.retry_after > self.timeout:
                raise refusal
            retries -= 1
            time.sleep(refusal.retry_after)

    def _kept(self) -> http.client.HTTPConnection | None:
        """A connection of this process that the server has not closed."""
        with contextlib.suppress(IndexError):
            while True:
                process, connection = self._idle.pop()
                with selectors.DefaultSelector() as selector:
                    selector.register(connection.sock, selectors.EVENT_READ)
                    if process == os.getpid() and not selector.select(0):  # neither an end nor a stray answer has come
                        return connection
                connection.close()
        return None

    def _body(self, answer: http.client.HTTPResponse) -> bytearray:
        claimed, data = answer.length, bytearray()
        if claimed is None or claimed > self.max_bytes:
            raise ServerError(answer.status, f"the answer has Content-Length {claimed} (max_bytes: {self.max_bytes})")
        while piece := answer.read(1 << 20):
            data += piece
        if len(data) < claimed:
            raise ConnectionError(f"the answer ends after {len(data)} of {claimed} bytes")
        return data


class ModelSequence(contextlib.AbstractContextManager["ModelSequence"]):
    """A sequence of a model that keeps a state. `Client.sequence` makes it, for a `with` statement.

    At the end of the `with` block the last step is sent again, as the end of the sequence, so that the server forgets the state.

    Args:
        client: The client.
        model: The model's name.
        version: The model's version; the newest by default.

    Example:
        >>> client = keras.client.Client("http://localhost:8000")
        >>> steps = client.sequence("steps")
    """

    def __init__(self, client: Client, model: str, version: str | int | None = None):
        self._client, self._model, self._version = client, model, version
        self._id, self._is_begun, self._is_lost, self._last = os.urandom(16).hex(), False, False, None

    def __exit__(self, *exception: object) -> None:
        if self._is_begun and not self._is_lost:
            with contextlib.suppress(OSError, ServerError):
                self.predict(self._last, end=True)

    def predict(self, x: Any, end: bool = False) -> Any:
        """Predict the next steps.

        Args:
            x: As for `Client.predict`; all requests of a sequence have the same number of rows.
            end: Whether these are the last steps of the sequence. The next ones begin another.

        Returns:
            A NumPy array; for several outputs a dict of arrays by name.

        Raises:
            ServerError: The server answers with an error. The step was not taken, unless the message says otherwise.
            ConnectionError: There is no answer, so it is unknown whether the step was taken. This sequence cannot continue.
            TimeoutError: As ConnectionError.
        """
        if self._is_lost:
            raise ConnectionError("it is unknown whether the server took the last step: begin a new sequence")
        state = {"sequence_id": self._id, "sequence_start": not self._is_begun, "sequence_end": end}
        try:
            found = self._client.predict(self._model, x, self._version, **state)
        except (OSError, KeyboardInterrupt, ServerError) as error:
            self._is_lost = getattr(error, "status", 0) < 400  # else the server says that it took no step
            raise
        self._is_begun, self._last = not end, x
        return found


# -------------------- tensors and answers --------------------


def _path_of(model: str, version: str | int | None) -> str:
    path = f"/v2/models/{urllib.parse.quote(model, '')}"
    return path if version is None else f"{path}/versions/{urllib.parse.quote(str(version), '')}"


def _bytes(array: np.ndarray) -> bytes:
    """The bytes of an input; each string follows its length in 4 bytes."""
    if array.dtype != object:
        return array.tobytes()
    texts = [text.encode() for text in array.flat]
    return b"".join(part for text in texts for part in (len(text).to_bytes(4, "little"), text))


def _converted(name: str, datatype: str, x: Any) -> np.ndarray:
    """The array of an input."""
    if datatype == "BYTES":  # only then: an array of numbers would become an object for each number
        texts = np.asarray(x, object)
        if all(isinstance(text, str) for text in texts.flat):
            return texts
    array, dtype = np.asarray(x), _DTYPES.get(datatype)
    is_number = dtype is not None and array.dtype.kind in "biuf"
    with np.errstate(all="ignore"):
        made = array.astype(dtype) if is_number else array
    if not is_number or (made.dtype.kind != "f" and not np.array_equal(made, array)):
        raise ValueError(f"input {name!r} takes {datatype}, which cannot hold all values of the array of {array.dtype}")
    return made


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    """Turn any failure of reading an answer into a ServerError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise ServerError(200, f"the answer is malformed: {error!r:.300}") from error


@_readable()
def _parsed(text: bytearray) -> Any:
    if len(text) > _MAX_JSON:
        raise ValueError(f"{len(text)} bytes of JSON (limit: {_MAX_JSON})")
    return json.loads(text)


@_readable()
def _outputs(data: bytearray, json_bytes: str | None) -> dict[str, np.ndarray]:
    """The outputs in an answer, by name. json_bytes: the header with the length of the JSON."""
    at = len(data) if json_bytes is None else int(json_bytes)
    if not 0 <= at <= len(data):
        raise ValueError(f"{_SIZE} is {at}, but the answer has {len(data)} bytes")
    outputs = {}
    for tensor in _parsed(data[:at])["outputs"]:
        shape, size = tensor["shape"], tensor["parameters"]["binary_data_size"]
        if len(shape) > 32 or not all(type(each) is int and 0 <= each <= len(data) for each in (size, *shape)):
            raise ValueError(f"shape {shape!r:.80} and size {size!r:.80} in an answer of {len(data)} bytes")
        values = np.frombuffer(data[at : at + size], _DTYPES[tensor["datatype"]])
        if math.prod(shape) != values.size:
            raise ValueError(f"shape {shape}, but {values.size} values")
        outputs[tensor["name"]] = values.reshape(shape)
        at += size
    if at != len(data) or not outputs:
        raise ValueError(f"{len(outputs)} outputs, and {len(data) - at} bytes after them")
    return outputs


def _refusal(answer: http.client.HTTPResponse, data: bytearray) -> ServerError:
    try:
        message = str(_parsed(data)["error"])
    except (ServerError, LookupError, TypeError):
        message = data[:200].decode("utf-8", "replace") or answer.reason
    after = answer.headers.get("Retry-After", "") if answer.status == 503 else ""
    return ServerError(answer.status, message, int(after) if after.isdecimal() and len(after) < 9 else None)
