"""`tf.summary`: scalars, images, histograms and texts for TensorBoard, written by the package tensorboardX."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from nbkeras.callbacks.tensorboard import writer_class

_writers: list[SummaryWriter] = []  # those whose `as_default` is open; the last one is used


class SummaryWriter:
    """Writes files for TensorBoard into a folder."""

    def __init__(self, logdir: Any):
        self.package = writer_class("tf.summary")(os.fspath(logdir))

    @contextlib.contextmanager
    def as_default(self, step: Any = None) -> Iterator[SummaryWriter]:
        """`with writer.as_default():` the functions of `tf.summary` write with this writer."""
        _writers.append(self)
        try:
            yield self
        finally:
            _writers.remove(self)
            self.flush()

    def flush(self) -> None:
        """Write what is kept in memory."""
        self.package.flush()

    def close(self) -> None:
        """Write all and close the file."""
        self.package.close()


def create_file_writer(
    logdir: Any, max_queue: Any = None, flush_millis: Any = None, filename_suffix: Any = None, name: Any = None
) -> SummaryWriter:
    """A writer into a folder."""
    return SummaryWriter(logdir)


def _write(method: str, name: str, value: Any, step: Any, **options: Any) -> bool:
    """Write with the current writer. Returns False if there is none, as TensorFlow."""
    if not _writers:
        return False
    getattr(_writers[-1].package, method)(name, value, None if step is None else int(step), **options)
    return True


def scalar(name: str, data: Any, step: Any = None, description: Any = None) -> bool:
    """A number."""
    return _write("add_scalar", name, float(data), step)


def image(name: str, data: Any, step: Any = None, max_outputs: int = 3, description: Any = None) -> bool:
    """The first images of a batch (images, height, width, channels): floats from 0 to 1, or bytes."""
    images = np.asarray(data)[:max_outputs]
    images = images if images.dtype == np.uint8 else (np.clip(images, 0, 1) * 255).astype(np.uint8)
    images = np.repeat(images, 3, -1) if images.shape[-1] == 1 else images
    written = [
        _write("add_image", f"{name}/image/{i}" if len(images) > 1 else f"{name}/image", each, step, dataformats="HWC")
        for i, each in enumerate(images)
    ]
    return any(written)


def histogram(name: str, data: Any, step: Any = None, buckets: Any = None, description: Any = None) -> bool:
    """How often values occur."""
    return _write("add_histogram", name, np.asarray(data), step)


def text(name: str, data: str, step: Any = None, description: Any = None) -> bool:
    """A text."""
    return _write("add_text", name, str(data), step)
