"""Other people's packages on nbkeras: `python tests/packages [name ...]` runs their own tests with nbkeras as Keras.

Each .toml file here describes a package: its version, the mode, where its tests are, how many pass, and the reason of each test
that fails. A file ..._check.py has further tests of nbkeras's own, such as the example of the package's README; uses_check.py has
one test for each of several packages. For each package this program makes a virtual environment with nbkeras, the package without
its dependencies (so without Keras), and what the file names. The exit code is 1 if a test fails that the file does not name, or
if fewer tests pass than it says.
"""

import argparse
import dataclasses
import os
import pathlib
import subprocess
import sys
import tarfile
import tempfile
import tomllib
import urllib.request
import venv
import xml.etree.ElementTree as ET

FOLDER = pathlib.Path(__file__).resolve().parent
ROOT = FOLDER.parents[1]
ARCHIVES = os.environ.get("NBKERAS_PACKAGES")  # a folder with NAME-VERSION.tar.gz, for machines without the network


@dataclasses.dataclass(frozen=True)
class Package:
    """The contents of a .toml file."""

    name: str
    version: str
    keras: int
    tests: str  # a URL of a .tar.gz, 'sdist' for the package's source distribution on PyPI, or '' for none
    passed: int
    run: list[str] = dataclasses.field(default_factory=list)
    seconds: int = 60
    backend: str = ""
    tensorflow: bool = False
    needs: list[str] = dataclasses.field(default_factory=list)  # installed with what they need
    beside: list[str] = dataclasses.field(default_factory=list)  # other packages for Keras, installed as the package is
    use: bool = False  # whether uses_check.py has a test of it
    on_pypi: bool = True  # if not, the folder of its tests is installed
    failing: dict[str, str] = dataclasses.field(default_factory=dict)

    @property
    def checks(self) -> list[str]:
        """The tests of nbkeras's own."""
        own = FOLDER / f"{self.name.replace('-', '_')}_check.py"
        of_use = f"{FOLDER / 'uses_check.py'}::test_the_numbers_are_those_of_keras[{self.name}]"
        return [str(own)] * own.exists() + [of_use] * self.use


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What the tests of a package gave."""

    passed: int
    expected_failures: int
    surprises: list[str]
    skipped: int


def packages(names: list[str]) -> list[Package]:
    """The packages with these names, by default all."""
    known = {path.stem: path for path in sorted(FOLDER.glob("*.toml"))}
    unknown = [name for name in names if name.replace("-", "_") not in known]
    if unknown:
        sys.exit(f"there is no package {', '.join(unknown)}: choose from {', '.join(known)}")
    chosen = [name.replace("-", "_") for name in names] or known
    return [Package(**tomllib.loads(known[name].read_text(encoding="utf-8"))) for name in chosen]


def installed(package: Package, wheel: str, folder: pathlib.Path) -> str:
    """The Python of a virtual environment with nbkeras, the package and what it needs."""
    venv.create(folder, with_pip=True)
    python = str(folder / "bin" / "python")
    pip = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, f"{wheel}[files,images,tensorboard]", "pytest", "pandas", "scipy", *package.needs], check=True
    )
    own = [f"{package.name}=={package.version}"] if package.on_pypi else []
    if own or package.beside:
        subprocess.run([*pip, "--no-deps", *own, *package.beside], check=True)
    return python


def unpacked(package: Package, python: str, folder: pathlib.Path) -> pathlib.Path:
    """The folder of the package's tests."""
    folder.mkdir()
    if not package.tests:
        return folder
    archive = folder / "tests.tar.gz"
    if ARCHIVES and (held := pathlib.Path(ARCHIVES) / f"{package.name}-{package.version}.tar.gz").exists():
        archive = held
    elif package.tests == "sdist":
        pip = [python, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--dest", str(folder)]
        subprocess.run([*pip, f"{package.name}=={package.version}"], check=True)
        archive = next(folder.glob("*.tar.gz"))
    else:
        urllib.request.urlretrieve(package.tests, archive)
    with tarfile.open(archive) as file:
        file.extractall(folder, filter="data")
    inside = next(each for each in folder.iterdir() if each.is_dir())
    if not package.on_pypi:
        subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", str(inside)], check=True)
    return inside


def outcome(package: Package, python: str, folder: pathlib.Path) -> Outcome:
    """Run the tests of a package in a folder."""
    report = folder / "report.xml"
    options = ["--keras", str(package.keras)]
    options += ["--backend", package.backend] if package.backend else []
    options += ["--tensorflow"] if package.tensorflow else []
    runs = [package.run] if package.tests else []
    if package.checks:  # nbkeras's own pytest settings and conftest.py are not for these
        runs.append(["--noconftest", "-c", os.devnull, "--rootdir", str(folder), *package.checks])
    passed = skipped = expected = 0
    surprises = []
    for selected in runs:
        pytest = ["-m", "pytest", "-q", "-p", "no:cacheprovider", f"--junitxml={report}", *selected]
        report.unlink(missing_ok=True)
        done = subprocess.run([python, "-P", "-m", "nbkeras", *options, *pytest], cwd=folder, check=False)
        if not report.exists():
            return Outcome(passed, expected, [*surprises, f"pytest ended with exit code {done.returncode}"], skipped)
        for case in ET.parse(report).iter("testcase"):
            name = f"{case.get('classname')}::{case.get('name')}"
            kinds = {child.tag for child in case}
            if kinds & {"failure", "error"}:
                known = any(part in name for part in package.failing)
                expected += known
                surprises += [] if known else [name]
            elif "skipped" in kinds:
                skipped += 1
            else:
                passed += 1
    return Outcome(passed, expected, surprises, skipped)


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the tests of other people's packages with nbkeras as Keras.")
    parser.add_argument("names", nargs="*", help="packages (default: all)")
    options = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as work:
        wheels = pathlib.Path(work) / "wheel"
        subprocess.run([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", wheels, ROOT], check=True)
        wheel = str(next(wheels.glob("*.whl")))
        for package in packages(options.names):
            print(f"== {package.name} {package.version}, Keras {package.keras}", flush=True)
            python = installed(package, wheel, pathlib.Path(work) / f"{package.name}-venv")
            found = outcome(package, python, unpacked(package, python, pathlib.Path(work) / package.name))
            few = found.passed < package.passed
            bad += few or bool(found.surprises)
            print(
                f"== {package.name}: {found.passed} passed ({package.passed} expected), {found.expected_failures} failed for "
                f"known reasons, {found.skipped} skipped{''.join(f'{os.linesep}   FAILED {each}' for each in found.surprises)}",
                flush=True,
            )
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
