"""Callbacks that write the logs to a CSV file or send them to a server."""

import csv
import io
import json
import os
import urllib.parse
import urllib.request
from collections.abc import Iterable
from typing import Any

import numpy as np

from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine import option, sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import warn
from nbkeras.saving.archive import disk_errors


class CSVLogger(Callback):
    """Write each epoch's logs as a row of a CSV file, with a header.

    The columns are the metrics of the first epoch, sorted. If the first epoch has no validation, there are `val_` columns for
    later epochs. A missing value is written as NA.

    Args:
        filename: The path of the file.
        separator: The string between columns.
        append: Whether to append to an existing file instead of replacing it.

    Raises:
        OSError: at the end of an epoch, if the file cannot be written; earlier rows remain.

    Example:
        >>> model = keras.Sequential([layers.Dense(1, kernel_initializer="zeros")])
        >>> model.compile(keras.optimizers.SGD(0.25), "mse")
        >>> logger = keras.callbacks.CSVLogger("log.csv")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), epochs=2, verbose=0, callbacks=[logger])
        >>> import pathlib
        >>> print(pathlib.Path("log.csv").read_text())
        epoch,loss,val_loss
        0,1.0,NA
        1,0.0,NA
    """

    def __init__(self, filename: str | os.PathLike, separator: str = ",", append: option.Flag = False):
        self.filename = os.fspath(filename)
        self.sep = separator
        super().__init__()
        option.keep(self, locals())
        self.keys: list[str] | None = None
        self._replaces = not self.append

    def on_train_begin(self, logs=None) -> None:
        self.keys = None
        self._replaces = not self.append  # replace an existing file, unless training resumes

    def _size(self) -> int:
        return os.path.getsize(self.filename) if os.path.exists(self.filename) else 0

    def state_dict(self) -> dict[str, Any]:
        return {"keys": self.keys, "size": None if self._replaces else self._size()}

    def load_state_dict(self, state) -> None:
        self.keys, size = state["keys"], state["size"]
        if size is None or not sharding.is_first():
            return
        self._replaces, found = False, self._size()
        if found < size:
            warn(
                f"the file {self.filename!r} has {found} bytes, and had {size} when training was interrupted: rows are lost"
            )
        elif found:  # drop the rows of epochs that are trained again
            os.truncate(self.filename, size)

    def on_train_end(self, logs=None) -> None:
        self._replace()

    def _replace(self) -> None:
        if self._replaces and sharding.is_first():
            with disk_errors(self.filename, self.filename):
                open(self.filename, "w", encoding="utf-8").close()
            self._replaces = False

    def on_epoch_end(self, epoch, logs=None) -> None:
        if not sharding.is_first():
            return
        self._replace()
        logs = logs or {}
        if self.keys is None:
            self.keys = sorted(logs)
            if not any(key.startswith("val_") for key in self.keys):
                self.keys += [f"val_{key}" for key in self.keys]
        with disk_errors(self.filename, self.filename), open(self.filename, "ab", buffering=0) as file:
            size, text = file.tell(), io.StringIO(newline="")
            writer = csv.writer(text, delimiter=self.sep)
            if size == 0:
                writer.writerow(["epoch", *self.keys])
            writer.writerow([epoch, *(self._text(logs.get(key, "NA")) for key in self.keys)])
            data = text.getvalue().encode()
            try:
                while data:
                    data = data[file.write(data) :]
            except OSError:
                file.truncate(size)  # leave no partial row
                raise

    @staticmethod
    def _text(value):
        if isinstance(value, str) or not isinstance(value, Iterable) or np.ndim(value) == 0:
            return value
        return f'"[{", ".join(map(str, value))}]"'


class RemoteMonitor(Callback):
    """Send each epoch's logs to a server: a POST to root + path. A failed connection is a warning, not an error.

    Args:
        root: The address of the server, http or https.
        path: The path at the server.
        field: The field of the form that holds the logs as JSON.
        headers: Further headers of the request; None for none.
        send_as_json: Whether to send the JSON itself, instead of a form.

    Raises:
        ValueError: for a root that is not an http or https address.

    Example:
        >>> monitor = keras.callbacks.RemoteMonitor("https://example.org", "/log", send_as_json=True)
        >>> monitor.root + monitor.path
        'https://example.org/log'
    """

    def __init__(
        self,
        root: str = "http://localhost:9000",
        path: str = "/publish/epoch/end/",
        field: str = "data",
        headers: dict[str, str] | None = None,
        send_as_json: bool = False,
    ):
        if urllib.parse.urlsplit(root).scheme not in ("http", "https"):
            raise ValueError(f"RemoteMonitor needs an http or https address, received root={briefly(root)}")
        self.root = root
        self.path = path
        self.field = field
        self.headers = headers
        self.send_as_json = send_as_json

    def on_epoch_end(self, epoch, logs=None) -> None:
        if not sharding.is_first():
            return
        plain = {key: np.asarray(value).tolist() for key, value in (logs or {}).items()}
        body = json.dumps({"epoch": epoch, **plain})
        if not self.send_as_json:
            body = urllib.parse.urlencode({self.field: body})
        kind = "application/json" if self.send_as_json else "application/x-www-form-urlencoded"
        headers = {"Content-Type": kind, **(self.headers or {})}
        request = urllib.request.Request(self.root + self.path, body.encode(), headers)
        try:
            urllib.request.urlopen(request, timeout=10).close()
        except OSError as error:  # the base class of urllib's errors
            warn(f"could not reach the RemoteMonitor server at {self.root}: {error}")
