"""Files of frozen models that a stranger made: their hashes are right, and their descriptions are not."""

import hashlib
import json
import os
import pickle
import struct
import zlib

from nbkeras.inference import bundle


class _Makes:
    def __init__(self, folder):
        self.folder = str(folder)

    def __reduce__(self):
        return os.mkdir, (self.folder,)


def write_old_file_that_makes(path, folder):
    """Write a file of the format that held a pickle; its pickle makes a folder."""
    content = pickle.dumps(_Makes(folder), 5)
    about = {"kind": "Frozen", "version": "0", "constants": [0, zlib.crc32(b"")]}
    text = json.dumps(about | {"pickle": [len(content), zlib.crc32(content)]}).encode()
    header = struct.pack("<16sII", b"nbkeras frozen\n\0", len(text), zlib.crc32(text))
    path.write_bytes(header + text + content)
    path.chmod(0o600)


def description(path):
    """The JSON object of a file."""
    content = path.read_bytes()
    _, _, length, _ = bundle._HEADER.unpack_from(content)
    return json.loads(content[bundle._HEADER.size : bundle._HEADER.size + length])


def rewrite(path, about):
    """Write a file with another JSON object, an object or bytes, and the same constants. Its hashes are right."""
    content = path.read_bytes()
    nbytes = description(path)["constants"]["bytes"]
    text = about if isinstance(about, bytes) else json.dumps(about).encode()
    head = bundle._HEADER.pack(bundle.FROZEN, bundle._FORMAT, len(text), hashlib.sha256(text).digest()) + text
    path.write_bytes(head + bytes(-len(head) % 4096) + content[len(content) - nbytes :])
