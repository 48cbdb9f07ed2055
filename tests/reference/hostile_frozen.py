"""A frozen file that runs code when its pickle is loaded."""

import json
import os
import pickle
import zlib

import nbkeras
from nbkeras.inference import portable


class _Makes:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def write_frozen_that_makes(path, folder):
    """Write a file whose header and checksums are right, and whose pickle makes a folder."""
    content = pickle.dumps(_Makes(folder), 5)
    about = {"kind": "Frozen", "version": nbkeras.__version__, "constants": [0, zlib.crc32(b"")]}
    text = json.dumps(about | {"pickle": [len(content), zlib.crc32(content)]}).encode()
    path.write_bytes(portable._HEADER.pack(portable._MAGIC, len(text), zlib.crc32(text)) + text + content)
    path.chmod(0o600)
