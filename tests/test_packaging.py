"""The contents of the wheel, and nbkeras in its own source folder."""

import configparser
import importlib.util
import json
import os
import pathlib
import re
import runpy
import shutil
import subprocess
import sys
import tomllib
import zipfile

import pytest
import setuptools
from packaging.requirements import Requirement

import nbkeras
from nbkeras.kernels.runtime import pack

ROOT = pathlib.Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_the_list_of_packages_names_every_folder():
    """An explicit list, since setuptools' discovery leaves kernels/ out of the wheel without a word."""
    found = {".".join(init.parent.relative_to(ROOT).parts) for init in (ROOT / "nbkeras").rglob("__init__.py")}
    found |= {
        ".".join(("nbkeras", *init.parent.relative_to(ROOT).parts)) for init in (ROOT / "kernels").rglob("__init__.py")
    }
    assert sorted(PROJECT["tool"]["setuptools"]["packages"]) == sorted(found)
    assert PROJECT["tool"]["setuptools"]["package-dir"]["nbkeras.kernels"] == "kernels"


def test_every_folder_with_python_files_is_a_package():
    for path in (*(ROOT / "nbkeras").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")):
        assert (path.parent / "__init__.py").exists(), path


def test_data_files_are_in_the_package():
    patterns = PROJECT["tool"]["setuptools"]["package-data"]
    for path in (ROOT / "nbkeras").rglob("*"):
        if path.is_file() and path.suffix not in (".py", ".pyc"):
            package = ".".join(path.parent.relative_to(ROOT).parts)
            assert any(path.match(pattern) for pattern in patterns.get(package, [])), f"{path} is not in package-data"


def build_options(monkeypatch, **variables):
    """Returns what setup.py tells setuptools when these variables are set."""
    told = {}
    monkeypatch.setattr(setuptools, "setup", lambda **options: told.update(options))
    for name in ("NBKERAS_WHEEL", "NBKERAS_PACKS"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    runpy.run_path(str(ROOT / "setup.py"))
    return told


def test_runtime_dependencies(monkeypatch):
    """A clone needs Numba; all wheels of a version have the same metadata, by which Linux with their kernels needs only NumPy."""
    needed = build_options(monkeypatch)["install_requires"]
    assert [re.match(r"\w+", each)[0] for each in needed] == ["numba", "numpy"] and ";" not in "".join(needed)
    assert needed[0] in PROJECT["project"]["optional-dependencies"]["compiler"]
    wheels = [
        build_options(monkeypatch, NBKERAS_WHEEL=kind, NBKERAS_PACKS=packs)
        for kind, packs in (("x86_64", "a.pack:b.pack"), ("aarch64", "c.pack"), ("any", ""))
    ]
    numba, numpy = wheels[0]["install_requires"]
    assert all(wheel["install_requires"] == [numba, numpy] for wheel in wheels) and numpy == needed[1]
    marker = Requirement(numba).marker
    for system, machine, is_needed in (
        ("linux", "x86_64", False),
        ("linux", "aarch64", False),
        ("linux", "ppc64le", True),
        ("darwin", "arm64", True),
        ("win32", "AMD64", True),
    ):
        assert marker.evaluate({"sys_platform": system, "platform_machine": machine}) == is_needed, (system, machine)
    assert [sorted(wheel["cmdclass"]) for wheel in wheels] == [["bdist_wheel", "build_py"]] * 2 + [[]]


def load_sbom():
    spec = importlib.util.spec_from_file_location("make_sbom", ROOT / "scripts" / "make_sbom.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


@pytest.fixture
def wheel(tmp_path):
    """A small wheel with the digits, a file of kernels, and requirements."""
    tools = {"python": "3.13.1", "numba": "0.61.0", "llvmlite": "0.44.0"}
    about = "Name: nbkeras\nVersion: 1.2\nSummary: A package\nLicense-Expression: MIT\nRequires-Dist: numpy>=1.26\n"
    about += "Requires-Dist: h5py>=3.8; extra == 'files'\nRequires-Dist: nbkeras[files]; extra == 'test'\n"
    members = {
        "nbkeras/datasets/digits.npz": b"digits",
        "nbkeras/kernels/packed/x86-64-v3.pack": pack.packed({}, {"target": "x86-64-v3", "tools": tools}),
        "nbkeras-1.2.dist-info/METADATA": about.encode(),
        "nbkeras-1.2.dist-info/WHEEL": b"Generator: setuptools (80.1.0)\n",
        "nbkeras-1.2.dist-info/RECORD": b"nbkeras-1.2.dist-info/RECORD,,\n",
    }
    with zipfile.ZipFile(tmp_path / "nbkeras-1.2-py3-none-any.whl", "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return tmp_path / "nbkeras-1.2-py3-none-any.whl"


def test_a_wheel_says_what_it_consists_of(wheel, monkeypatch):
    monkeypatch.delenv("SOURCE_DATE_EPOCH", raising=False)
    script = load_sbom()
    [mistake] = script.mistakes(wheel)
    assert "has no nbkeras-1.2.dist-info/sboms/nbkeras.cdx.json" in mistake
    script.add(wheel)
    content = wheel.read_bytes()
    script.add(wheel)
    assert script.mistakes(wheel) == [] and wheel.read_bytes() == content
    with zipfile.ZipFile(wheel) as archive:
        bom = json.loads(archive.read("nbkeras-1.2.dist-info/sboms/nbkeras.cdx.json"))
    assert (bom["bomFormat"], bom["specVersion"], bom["version"]) == ("CycloneDX", "1.6", 1)
    assert re.fullmatch("urn:uuid:[0-9a-f]{8}-([0-9a-f]{4}-){3}[0-9a-f]{12}", bom["serialNumber"])
    assert bom["metadata"]["component"]["purl"] == "pkg:pypi/nbkeras@1.2" and "timestamp" not in bom["metadata"]
    tools = {each["name"]: each["version"] for each in bom["metadata"]["tools"]["components"]}
    assert tools == {"python": "3.13.1", "numba": "0.61.0", "llvmlite": "0.44.0", "setuptools": "80.1.0"}
    licences = {each["name"]: each["licenses"][0]["license"]["id"] for each in bom["components"] if "licenses" in each}
    assert licences["nbkeras/datasets/digits.npz"] == "CC-BY-4.0" and licences["numba"] == "BSD-2-Clause"
    scopes = {each["name"]: each["scope"] for each in bom["components"] if "scope" in each}
    assert scopes == {"numpy": "required", "h5py": "optional"}
    refs = {each["bom-ref"] for each in (bom["metadata"]["component"], *bom["components"])}
    assert len(refs) == 1 + len(bom["components"])
    assert all({each["ref"], *each["dependsOn"]} <= refs for each in bom["dependencies"])


def test_a_wheel_that_was_changed_does_not_agree_with_its_list(wheel):
    script = load_sbom()
    script.add(wheel)
    with zipfile.ZipFile(wheel) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["nbkeras/datasets/digits.npz"] = b"others"
    members["nbkeras-1.2.dist-info/METADATA"] += b"Requires-Dist: scipy\n"
    with zipfile.ZipFile(wheel, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    first, second = script.mistakes(wheel)
    assert first.startswith("the requirements in") and second.startswith("the files of others' work in")


def test_lint_tools_are_pinned_alike_everywhere():
    pins = {d for d in PROJECT["project"]["optional-dependencies"]["dev"] if re.match(r"(ruff|mypy)==", d)}
    tox = configparser.ConfigParser()
    tox.read(ROOT / "tox.ini")
    assert pins and pins <= set(tox["testenv:lint"]["deps"].split())
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert set(re.findall(r"(?:ruff|mypy)==[\d.]+", hooks)) == pins


def test_the_readme_s_test_command_is_what_ci_runs():
    """.ci/run takes the command of the unit tests from the page: it must find exactly one. Then it runs the other tiers."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [line for line in readme.splitlines() if line.endswith("&& .venv/bin/pytest -n auto")]
    assert len(commands) == 1
    run = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert r"&& \.venv/bin/pytest -n auto$" in run and '\n.venv/bin/pytest -n auto tests -m "not unit"\n' in run


def test_the_version_is_the_changelog_s_newest():
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert re.search(r"^## (\S+)", changelog, re.MULTILINE)[1] == nbkeras.__version__


def test_the_source_distribution_has_all_files():
    """By MANIFEST.in: setuptools itself takes the packages, setup.py, pyproject.toml, the README and the licenses."""
    named = {"nbkeras", "kernels", "MANIFEST.in", "pyproject.toml", "setup.py", "README.md", "LICENSE", "NOTICE"}
    for line in (ROOT / "MANIFEST.in").read_text(encoding="utf-8").splitlines():
        command, *names = line.split()
        if command in ("graft", "include"):
            assert all((ROOT / name).exists() for name in names), line
            named.update(names)
    ignored = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    made = {".git", "PKG-INFO", "setup.cfg"}  # by git, and by setuptools in a source distribution
    for path in ROOT.iterdir():
        if not any(path.match(pattern.rstrip("/")) for pattern in ignored):
            assert path.name in named | made, f"{path.name} is not in MANIFEST.in"


@pytest.mark.process
def test_an_installation_leaves_nothing_in_the_checkout(tmp_path):
    """A small project with this setup.py, since the setuptools here may be too old for this pyproject.toml."""
    pytest.importorskip("setuptools")
    files = {"setup.py", "setup.cfg", "module.py"}
    shutil.copy(ROOT / "setup.py", tmp_path)
    (tmp_path / "module.py").touch()
    (tmp_path / "setup.cfg").write_text("[metadata]\nname = small\n[options]\npy_modules = module\n", encoding="utf-8")
    subprocess.run([sys.executable, "setup.py", "-q", "build", "egg_info"], cwd=tmp_path, check=True, timeout=120)
    assert {path.name for path in tmp_path.iterdir()} == files


@pytest.fixture
def source_copy(tmp_path):
    """The folder nbkeras/ alone, as Python finds it in the current folder of a checkout."""
    shutil.copytree(ROOT / "nbkeras", tmp_path / "nbkeras", ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


@pytest.mark.process
@pytest.mark.parametrize("safe", [False, True], ids=["unsafe path", "PYTHONSAFEPATH"])
def test_the_source_folder_without_kernels_says_what_to_do(source_copy, safe):
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONSAFEPATH"} | (
        {"PYTHONSAFEPATH": "1"} if safe else {}
    )
    # An editable install would find kernels/ all the same; -S leaves it out, and so numba too.
    run = subprocess.run(
        [sys.executable, *([] if safe else ["-S"]), "-c", "import nbkeras"],
        cwd=source_copy,
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert run.returncode == (0 if safe else 1), run.stderr
    if not safe:
        last = run.stderr.strip().splitlines()[-1]
        assert last.startswith(f"ImportError: nbkeras was imported from its source folder {source_copy / 'nbkeras'}")
        assert "run Python from another folder or with -P" in last and "pip install -e ." in last
