"""Coverage-guided fuzzing with atheris: `python tests/fuzz/guided.py files -max_total_time=600 corpus/`.

libFuzzer changes bytes so that they reach new lines of nbkeras's Python code. For `json` and `load` the bytes are the text of a
model and a model file; for a family they are the choices that make its cases, so that the same faults are found as by the others.
Further arguments are libFuzzer's. Needs atheris (`pip install atheris`), which has wheels for some versions of Python only.
"""

import importlib.util
import io
import os
import pathlib
import random
import sys
import tempfile
import warnings

FOLDER = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [FOLDER, os.path.join(os.path.dirname(FOLDER), "reference")]
os.environ.setdefault("NUMBA_NUM_THREADS", "1")

import atheris  # noqa: E402 (these lie in the folder just named)


def kernels():
    """Names of the modules that Numba compiles: it cannot compile what atheris adds to functions."""
    package = pathlib.Path(importlib.util.find_spec("nbkeras").origin).parent
    folder = next(each for each in (package / "kernels", package.parent / "kernels") if each.is_dir())
    paths = [path.relative_to(folder.parent).with_suffix("") for path in folder.rglob("*.py")]
    return [".".join(("nbkeras", *path.parts)).removesuffix(".__init__") for path in paths]


with atheris.instrument_imports(include=["nbkeras"], exclude=kernels()):
    import fuzz_campaign
    import fuzz_verdict

    from nbkeras import config, models


class Choices(random.Random):
    """Choices that bytes make, one after another; zeros where they end."""

    def __init__(self, data):
        self.data, self.at = data, 0
        super().__init__(0)

    def getrandbits(self, k):
        size = (k + 7) // 8
        piece = self.data[self.at : self.at + size]
        self.at += size
        return int.from_bytes(piece.ljust(size, b"\0"), "big") >> (8 * size - k)

    def random(self):
        return self.getrandbits(16) / (1 << 16)


def of_json(data):
    models.model_from_json(data.decode("utf-8", "replace"))


def of_file(data):
    models.load_model(io.BytesIO(data))


def target(what):
    read = {"json": of_json, "load": of_file}.get(what)

    def run(data):
        if read is None:
            fault, note = fuzz_campaign.run_case(fuzz_campaign.FAMILIES[what], Choices(data))
            if fault not in (None, "refused"):
                raise RuntimeError(f"FAULT {what}: {fault}\n  {note}")
            return
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                read(data)
        except Exception as error:
            fault = fuzz_verdict.fault_of(error)
            if fault is not None:
                raise RuntimeError(f"FAULT {what}: {fault} [{fuzz_verdict.place(error)}]") from error

    return run


def seeds(what, folder):
    """Small valid files to start from."""
    if what not in ("json", "load"):
        return
    import fuzz_files

    for kind in ("dense", "graph", "calls", "words"):
        files = fuzz_files.files_of(kind)
        names = [name for name in ("m.keras", "m.h5") if name in files]
        contents = [files["json"].encode()] if what == "json" else [files[name] for name in names]
        for number, content in enumerate(contents):
            with open(os.path.join(folder, f"{kind}{number}"), "wb") as file:
                file.write(content)


def main():
    what = sys.argv[1] if len(sys.argv) > 1 else ""
    if what not in ("json", "load", *fuzz_campaign.FAMILIES):
        sys.exit(
            f"usage: python tests/fuzz/guided.py json|load|{'|'.join(fuzz_campaign.FAMILIES)} [arguments of libFuzzer]"
        )
    config.disable_traceback_filtering()
    given = [os.path.abspath(each) if os.path.isdir(each) else each for each in sys.argv[2:]]
    with tempfile.TemporaryDirectory() as work:
        os.chdir(work)
        start = os.path.join(work, "start")
        os.mkdir(start)
        seeds(what, start)
        corpus = [each for each in given if not each.startswith("-")] or [start]
        options = ["-timeout=10", "-len_control=0", "-rss_limit_mb=4096", "-max_len=65536"]
        atheris.Setup([sys.argv[0], *options, *(each for each in given if each.startswith("-")), *corpus], target(what))
        atheris.Fuzz()


if __name__ == "__main__":
    main()
