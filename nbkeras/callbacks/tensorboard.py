"""Logs for TensorBoard, written by the package tensorboardX."""

from __future__ import annotations

import importlib
import os
import time
from typing import Any

import numpy as np

from nbkeras.callbacks import rates
from nbkeras.callbacks.callback_list import Callback
from nbkeras.engine import sharding
from nbkeras.engine.annotations import briefly
from nbkeras.engine.user_errors import optional_import, warn


def writer_class(what: str) -> Any:
    """tensorboardX's class of writers. what: the user of the class, for the message if it is missing."""
    with optional_import(f"{what} writes its files with the package tensorboardX, which is missing", "tensorboard"):
        return importlib.import_module("tensorboardX").SummaryWriter


class TensorBoard(Callback):
    """Write logs for TensorBoard, by the package tensorboardX: metrics by epoch and batch, weights, the model.

    Args:
        log_dir: The folder for the subfolders 'train' and 'validation'.
        histogram_freq: The number of epochs between two histograms of the weights; 0 for none.
        write_graph: Whether to write the model's layers.
        write_images: Whether to write images of the weights too, with the histograms.
        write_steps_per_second: Whether to log the speed.
        update_freq: 'epoch', 'batch', or the number of batches between two logs of their metrics.
        profile_batch: Not supported; a value other than 0 gives a warning: use `nbkeras.profile`.
        embeddings_freq: Not supported; a value other than 0 raises ValueError.
        embeddings_metadata: Not supported; a value other than None raises ValueError.

    Raises:
        ImportError: if tensorboardX is not installed.
        ValueError: for arguments that are not supported, and for an invalid update_freq.

    Example:
        >>> model = keras.Sequential([layers.Dense(1)])
        >>> model.compile("sgd", "mse")
        >>> logs = keras.callbacks.TensorBoard("logs", update_freq="batch")
        >>> history = model.fit(np.ones((4, 1)), np.ones((4, 1)), verbose=0, callbacks=[logs])
    """

    lazy_logs = True
    _state_names = ("_batches", "_steps_before")

    def __init__(
        self,
        log_dir: str | os.PathLike = "logs",
        histogram_freq: int = 0,
        write_graph: bool = True,
        write_images: bool = False,
        write_steps_per_second: bool = False,
        update_freq: str | int = "epoch",
        profile_batch: Any = 0,
        embeddings_freq: int = 0,
        embeddings_metadata: Any = None,
    ):
        if profile_batch:
            warn(
                f"TensorBoard(profile_batch={briefly(profile_batch)}) is not supported, so no profile is written: "
                "nbkeras.profile(model, x, y) measures a step by layer and kernel"
            )
        if embeddings_freq or embeddings_metadata:
            raise ValueError("TensorBoard(embeddings_freq=..., embeddings_metadata=...) is not offered")
        update_freq = 1 if update_freq == "batch" else update_freq
        if update_freq != "epoch" and (not isinstance(update_freq, int) or update_freq < 1):
            raise ValueError(
                f"update_freq must be 'epoch', 'batch' or a number of batches, received {briefly(update_freq)}"
            )
        self.log_dir = os.fspath(log_dir)
        self.histogram_freq = histogram_freq
        self.write_graph = write_graph
        self.write_images = write_images
        self.write_steps_per_second = write_steps_per_second
        self.update_freq: Any = update_freq
        self._make_writer = writer_class("TensorBoard")
        self._writers: dict[str, Any] = {}
        self._batches = 0
        self._steps_before = 0
        self._started = 0.0

    def _writer(self, name: str) -> Any:
        if name not in self._writers:
            self._writers[name] = self._make_writer(os.path.join(self.log_dir, name))
        return self._writers[name]

    def _write(self, writer: str, prefix: str, logs: dict[str, Any], step: int, suffix: str = "") -> None:
        for name, value in logs.items() if sharding.is_first() else ():
            if np.ndim(value) == 0:
                self._writer(writer).add_scalar(f"{prefix}{name}{suffix}", float(value), step)

    def on_train_begin(self, logs=None) -> None:
        self._batches = 0
        if self.write_graph and getattr(self.model, "_graph", None) is not None and sharding.is_first():
            self._write_model()

    def on_train_batch_begin(self, batch, logs=None) -> None:
        self._batches += 1
        if self.write_steps_per_second:
            self._started = time.perf_counter()

    def on_train_batch_end(self, batch, logs=None) -> None:
        if self.update_freq == "epoch" or self._batches % self.update_freq:
            return
        values = dict(logs() if callable(logs) else logs or {})
        if self.write_steps_per_second:
            values["steps_per_second"] = 1.0 / (time.perf_counter() - self._started)
        self._write("train", "batch_", values, self._batches)

    def on_epoch_begin(self, epoch, logs=None) -> None:
        self._steps_before, self._epoch_started = self._batches, time.perf_counter()

    def on_epoch_end(self, epoch, logs=None) -> None:
        values = {name: value for name, value in (logs or {}).items() if not name.startswith("val_")}
        rates.log_learning_rates(self.model, values)
        if self.write_steps_per_second:
            seconds = time.perf_counter() - self._epoch_started
            values["steps_per_second"] = (self._batches - self._steps_before) / seconds
        self._write("train", "epoch_", values, epoch)
        validation = {name[4:]: value for name, value in (logs or {}).items() if name.startswith("val_")}
        self._write("validation", "epoch_", validation, epoch)
        if self.histogram_freq and epoch % self.histogram_freq == 0 and sharding.is_first():
            self._write_weights(epoch)
        for writer in self._writers.values():
            writer.flush()

    def on_test_end(self, logs=None) -> None:
        optimizer = self.model.optimizer
        iterations = 0 if optimizer is None else int(optimizer.iterations)
        self._write("validation", "evaluation_", dict(logs or {}), iterations, "_vs_iterations")

    def on_train_end(self, logs=None) -> None:
        for writer in self._writers.values():
            writer.close()
        self._writers.clear()

    def _write_weights(self, epoch: int) -> None:
        writer = self._writer("train")
        for weight in self.model.weights:
            values = weight.numpy()
            numbers = values[np.isfinite(values)]  # a histogram cannot hold NaN or infinite weights
            if numbers.size:
                writer.add_histogram(f"{weight.path}/histogram", numbers, epoch)
            image = _as_image(values) if self.write_images else None
            if image is not None:
                writer.add_images(f"{weight.path}/image", image, epoch, dataformats="NHWC")

    def _write_model(self) -> None:
        """Write the model's configuration, so that TensorBoard can draw its layers."""
        parts = ("summary", "tensor", "types")
        summary, tensor, types = (importlib.import_module(f"tensorboardX.proto.{part}_pb2") for part in parts)
        plugin = summary.SummaryMetadata.PluginData(plugin_name="graph_keras_model", content=b"1")
        value = tensor.TensorProto(dtype=types.DT_STRING, string_val=[self.model.to_json().encode()])
        metadata = summary.SummaryMetadata(plugin_data=plugin)
        entry = summary.Summary.Value(tag="keras", tensor=value, metadata=metadata)
        self._writer("train").file_writer.add_summary(summary.Summary(value=[entry]), 0)


def _as_image(weight: np.ndarray) -> np.ndarray | None:
    """A weight as images (number, height, width, 1) with values from 0 to 1, in Keras's layout; None if its rank does not fit."""
    image = weight.squeeze()
    if image.ndim not in (1, 2, 3):
        return None
    if image.ndim == 1:
        image = image[None, :, None]
    elif image.ndim == 2:
        image = (image.T if image.shape[0] > image.shape[1] else image)[None]
    else:
        image = image.transpose(2, 0, 1)
    low, high = image.min(), image.max()
    return ((image - low) / (high - low or 1))[..., None]
