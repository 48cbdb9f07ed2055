"""keras.json, the file of settings in the folder of Keras."""

import contextlib
import json
import os

from nbkeras import config
from nbkeras.data import downloads
from nbkeras.engine.outside import ordinary_file


def read(stack: contextlib.ExitStack) -> None:
    """Set floatx, epsilon and the data format from keras.json, if it exists."""
    path = os.path.join(downloads.cache_folder(), "keras.json")
    if not os.path.exists(path):
        return
    with open(path, encoding="utf-8", opener=ordinary_file) as file:
        try:
            settings = json.load(file)
        except ValueError as error:
            raise ValueError(f"{path} is not valid JSON ({error}): correct or remove it") from None
    for name in ("floatx", "epsilon", "image_data_format"):
        if name in settings:
            change = getattr(config, f"set_{name}")
            stack.callback(change, getattr(config, name)())
            change(settings[name])
