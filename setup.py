"""Builds in a temporary folder, so `pip install .` leaves no build/ and no nbkeras.egg-info/ in a checkout; chooses dependencies.

scripts/make_wheels.py sets NBKERAS_WHEEL, the kind of machine of a wheel ("x86_64", "aarch64", "any"), and NBKERAS_PACKS, the
files with its compiled kernels. All these wheels have the same metadata, because installers such as uv read those of one wheel
of a version and take them for all: Numba is needed where no wheel has kernels. Other builds, such as that of a clone, have no
compiled kernels; then Numba is needed on every system.
"""

import os
import shutil
import tempfile
from typing import Any

from setuptools import setup
from setuptools.command.build_py import build_py

KIND = os.environ.get("NBKERAS_WHEEL", "")
PACKS = [path for path in os.environ.get("NBKERAS_PACKS", "").split(os.pathsep) if path]
NUMBA, NUMPY = "numba>=0.61", "numpy>=1.26"
NO_KERNELS = "sys_platform != 'linux' or (platform_machine != 'x86_64' and platform_machine != 'aarch64')"


class BuildWithKernels(build_py):
    """Adds the files of compiled kernels to the package."""

    def run(self) -> None:
        super().run()
        folder = os.path.join(self.build_lib, "nbkeras", "kernels", "packed")
        os.makedirs(folder)
        for path in PACKS:
            shutil.copy(path, folder)


def commands() -> dict[str, Any]:
    """Returns the commands of a build with compiled kernels."""
    if not PACKS:
        return {}
    from setuptools.command.bdist_wheel import bdist_wheel  # since setuptools 70

    class Wheel(bdist_wheel):
        """Names the systems that load the kernels: each version of glibc has the functions that kernels call, and so has musl.

        On aarch64 kernels also need libgcc, which a system with musl need not have.
        """

        def get_tag(self) -> tuple[str, str, str]:
            systems = ["manylinux_2_17", "manylinux2014", *(["musllinux_1_2"] if KIND == "x86_64" else [])]
            return "py3", "none", ".".join(f"{system}_{KIND}" for system in systems)

    return {"build_py": BuildWithKernels, "bdist_wheel": Wheel}


with tempfile.TemporaryDirectory() as temporary:
    setup(
        install_requires=[f"{NUMBA}; {NO_KERNELS}" if KIND else NUMBA, NUMPY],
        cmdclass=commands(),
        options={"build": {"build_base": temporary}, "egg_info": {"egg_base": temporary}},
    )
