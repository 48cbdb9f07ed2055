"""Install a wheel as users do, in a fresh environment, and train a small network with it.

python scripts/smoke_test.py dist    dist: a folder with the wheels of `tox -e wheels`

pip chooses the wheel for this system. One with compiled kernels must work with NumPy alone, so Numba must not be there.
"""

import os
import subprocess
import sys
import tempfile
import venv
from pathlib import Path


def main() -> int:
    wheels = Path(sys.argv[1]).resolve()
    with tempfile.TemporaryDirectory() as folder:
        venv.create(folder, with_pip=True)
        python = str(Path(folder) / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python"))

        # kernels that this user has compiled before must not stand in for those of the wheel
        environment = os.environ | {"NUMBA_CACHE_DIR": str(Path(folder) / "cache")}

        def run(*command: str) -> str:
            # in the folder, so that no checkout's nbkeras is found
            options = {"cwd": folder, "env": environment, "stdout": subprocess.PIPE, "text": True}
            return subprocess.run([python, *command], check=True, **options).stdout

        # without an index, where another nbkeras might be
        options = ["--no-deps", "--no-index", "--only-binary", ":all:", "--find-links", str(wheels)]
        run("-m", "pip", "download", *options, "--dest", "chosen", "nbkeras")
        [wheel] = (Path(folder) / "chosen").iterdir()
        run("-m", "pip", "install", str(wheel))
        has_kernels = not wheel.name.endswith("-any.whl")
        installed = {line.partition("==")[0] for line in run("-m", "pip", "list", "--format", "freeze").split()}
        print(f"{wheel.name}: {', '.join(sorted(installed))}")
        needed = {"nbkeras", "numpy"} if has_kernels else {"nbkeras", "numpy", "numba", "llvmlite"}
        if installed - {"pip", "setuptools"} != needed:
            print(f"{wheel.name} must install {', '.join(sorted(needed))}, and nothing else", file=sys.stderr)
            return 1
        print(run("-m", "nbkeras", "digits").splitlines()[-1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
