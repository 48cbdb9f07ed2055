"""Check that the files of a release agree: versions, CHANGELOG.md, the recipe of conda, and the containers' Dockerfile.

python scripts/check_release.py           what must hold at any time
python scripts/check_release.py v1.2.3    also: the tag is that of the version, and CHANGELOG.md has the date of the release

Each mistake is printed; the exit code is 1 if there is one.
"""

import re
import sys
import tomllib
from pathlib import Path
from typing import Any

import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent


def version_mistakes(root: Path, tag: str = "") -> list[str]:
    """What is wrong with the version's places, and with the tag of a release if there is one."""
    version = re.search(r'^VERSION = "(.+?)"', _text(root / "nbkeras/engine/settings.py"), re.MULTILINE)[1]
    changelog = re.search(r"^## (\S+) - (.+)$", _text(root / "CHANGELOG.md"), re.MULTILINE)
    places = {
        "the newest section of CHANGELOG.md": changelog[1],
        "CITATION.cff": str(yaml.safe_load(_text(root / "CITATION.cff"))["version"]),
        "recipe/recipe.yaml": str(_recipe(root)["context"]["version"]),
    }
    mistakes = [
        f"{place} has version {found}, nbkeras/engine/settings.py has {version}: change one of them"
        for place, found in places.items()
        if found != version
    ]
    if tag and tag != f"v{version}":
        mistakes.append(
            f"the tag is {tag}, the tag of version {version} must be v{version}: change the tag or the version"
        )
    if tag and not re.fullmatch(r"\d{4}-\d\d-\d\d", changelog[2]):
        mistakes.append(
            f"CHANGELOG.md says {changelog[2]!r} for version {changelog[1]}, a release needs its date: "
            f"write '## {changelog[1]} - YYYY-MM-DD'"
        )
    return mistakes


def recipe_mistakes(root: Path) -> list[str]:
    """Where conda's recipe differs from pyproject.toml and setup.py, which has the dependencies."""
    project = tomllib.loads(_text(root / "pyproject.toml"))
    recipe, meta = _recipe(root), project["project"]
    floor = recipe["context"]["python_min"]
    needs = recipe["requirements"]
    # those of a build without compiled kernels, which is what conda makes
    runtime = re.search(r'^NUMBA, NUMPY = "(.+?)", "(.+?)"', _text(root / "setup.py"), re.MULTILINE).groups()
    name, _, function = recipe["build"]["python"]["entry_points"][0].partition(" = ")
    pairs = {
        "the lowest Python": (f">={floor}", meta["requires-python"]),
        "the dependencies": (
            sorted(line for line in needs["run"] if not line.startswith("python ")),
            sorted(f"{each.name} {each.specifier}" for each in map(Requirement, runtime)),
        ),
        "the packages of the build": (
            sorted(line for line in needs["host"] if not line.startswith(("python ", "pip"))),
            sorted(f"{each.name} {each.specifier}" for each in map(Requirement, project["build-system"]["requires"])),
        ),
        "the name": (recipe["package"]["name"], meta["name"]),
        "the license": (recipe["about"]["license"], meta["license"]),
        "the files of the license": (recipe["about"]["license_file"], meta["license-files"]),
        "the command": ({name: function}, meta["scripts"]),
    }
    return [
        f"{what} in recipe/recipe.yaml: {found}, in pyproject.toml or setup.py: {expected}: make them equal"
        for what, (found, expected) in pairs.items()
        if found != expected
    ]


def container_mistakes(root: Path) -> list[str]:
    """What is wrong with the images: who runs the server, how it starts, and whether the images differ."""
    images = _stages(_text(root / "containers" / "Dockerfile"))
    mistakes = []
    for name in ("slim", "distroless"):
        steps = images[name]
        if not re.fullmatch(r"[1-9]\d*:[1-9]\d*", steps["USER"]):
            mistakes.append(
                f"the image {name} ends with USER {steps['USER']}: give the numbers of a user and a group, not root's"
            )
        # names of files and images are different, what a user of the image meets is not
        for word in ("USER", "ENV", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"):
            if steps[word] != images["slim"][word]:
                mistakes.append(f"{word} of the image {name} is not that of slim: make them equal")
    pythons = {
        version for image in images.values() for version in re.findall(r"python(?:3\.|:3\.)(\d+)", image["text"])
    }
    if len(pythons) != 1:
        mistakes.append(f"the Dockerfile names Python 3 of versions {sorted(pythons)}: packages are for one version")
    return mistakes


def _stages(dockerfile: str) -> dict[str, dict[str, str]]:
    """Returns the last instruction of each kind in each stage, and the stage's text."""
    stages: dict[str, dict[str, str]] = {}
    text = re.sub(r"^#.*\n", "", dockerfile, flags=re.MULTILINE).replace("\\\n", " ")
    for line in filter(None, map(str.strip, text.splitlines())):
        word, _, rest = line.partition(" ")
        if word == "FROM":
            stage = stages[rest.rpartition(" AS ")[2]] = {"text": ""}
        stage["text"] += line + "\n"
        stage[word] = " ".join(rest.split())
    return stages


def _recipe(root: Path) -> dict[str, Any]:
    return yaml.safe_load(_text(root / "recipe" / "recipe.yaml"))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def main() -> int:
    mistakes = [*version_mistakes(ROOT, *sys.argv[1:2]), *recipe_mistakes(ROOT), *container_mistakes(ROOT)]
    for mistake in mistakes:
        print(mistake, file=sys.stderr)
    return 1 if mistakes else 0


if __name__ == "__main__":
    sys.exit(main())
