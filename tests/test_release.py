"""The files of a release agree: versions, the recipe of conda, the containers' Dockerfile, the workflows."""

import importlib.util
import re
import shutil
from pathlib import Path

import pytest

from nbkeras.serving import options

ROOT = Path(__file__).parents[1]
yaml = pytest.importorskip("yaml")
READ = [
    "nbkeras/engine/settings.py",
    "CHANGELOG.md",
    "CITATION.cff",
    "recipe/recipe.yaml",
    "pyproject.toml",
    "setup.py",
    "containers/Dockerfile",
]


def load_script():
    spec = importlib.util.spec_from_file_location("check_release", ROOT / "scripts" / "check_release.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    return script


check = load_script()


@pytest.fixture
def copy(tmp_path):
    """The files that are read, for a mistake in one of them."""
    for name in READ:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(root, name, pattern, new):
    path = root / name
    text, count = re.subn(pattern, new, path.read_text(encoding="utf-8"), count=1, flags=re.MULTILINE)
    assert count == 1, f"{name} does not have {pattern}"
    path.write_text(text, encoding="utf-8")


def test_this_release_has_no_mistakes():
    assert check.version_mistakes(ROOT) + check.recipe_mistakes(ROOT) + check.container_mistakes(ROOT) == []


@pytest.mark.parametrize(
    "name, pattern, message",
    [
        ("CHANGELOG.md", r"(?<=^## )\S+", "the newest section of CHANGELOG.md has version 9.9"),
        ("CITATION.cff", r"(?<=^version: )\S+", "CITATION.cff has version 9.9"),
        ("recipe/recipe.yaml", r"(?<=^  version: )\S+", "recipe/recipe.yaml has version 9.9"),
    ],
)
def test_each_place_of_the_version_is_compared(copy, name, pattern, message):
    change(copy, name, pattern, "9.9")
    [mistake] = check.version_mistakes(copy)
    assert mistake.startswith(message)


def test_a_tag_is_that_of_the_version_and_its_release_has_a_date(copy):
    change(copy, "CHANGELOG.md", r"^## (\S+) - .*", r"## \1 - Unreleased")
    wrong_tag, no_date = check.version_mistakes(copy, "v9.9")
    assert wrong_tag.startswith("the tag is v9.9, the tag of version ")
    assert no_date.startswith("CHANGELOG.md says 'Unreleased' for version ")
    change(copy, "CHANGELOG.md", r"^## (\S+) - Unreleased", r"## \1 - 2026-12-01")
    assert check.version_mistakes(copy, wrong_tag.rpartition(" must be ")[2].partition(":")[0]) == []


@pytest.mark.parametrize(
    "pattern, new, message",
    [
        (r"(?<=python_min: )\S+", '"3.9"', "the lowest Python in recipe/recipe.yaml: >=3.9, "),
        (r"^ +- numpy .*\n", "", "the dependencies in recipe/recipe.yaml: ['numba >="),
        (r"(?<=- numba ).*", ">=0.1", "the dependencies in recipe/recipe.yaml: ['numba >=0.1', "),
        (r"(?<=- setuptools ).*", ">=1", "the packages of the build in recipe/recipe.yaml: ['setuptools >=1'], "),
        (r"(?<=license: )\S+", "BSD-3-Clause", "the license in recipe/recipe.yaml: BSD-3-Clause, "),
    ],
    ids=["another Python", "no numpy", "another numba", "another setuptools", "another license"],
)
def test_the_recipe_is_compared_with_the_project(copy, pattern, new, message):
    change(copy, "recipe/recipe.yaml", pattern, new)
    [mistake] = check.recipe_mistakes(copy)
    assert mistake.startswith(message)


@pytest.mark.parametrize(
    "pattern, new, message",
    [
        (r"(?<=^USER )65532:65532", "root", "the image distroless ends with USER root: "),
        (r"(?<=^FROM python:)3\.13", "3.14", "the Dockerfile names Python 3 of versions ['13', '14']: "),
        (r"NBKERAS_SERVE_WORKERS=0", "NBKERAS_SERVE_WORKERS=1", "ENV of the image distroless is not that of slim: "),
    ],
    ids=["root", "another Python", "another setting"],
)
def test_the_images_are_checked(copy, pattern, new, message):
    change(copy, "containers/Dockerfile", pattern, new)
    assert [mistake for mistake in check.container_mistakes(copy) if mistake.startswith(message)]


def test_the_settings_of_the_images_are_options_of_the_server():
    dockerfile = (ROOT / "containers" / "Dockerfile").read_text(encoding="utf-8")
    names = {name.lower() for name in re.findall(r"NBKERAS_SERVE_(\w+)=", dockerfile)}
    assert names == {"host", "workers"} and all(hasattr(options.Options(models=()), name) for name in names)


WORKFLOWS = {path.stem: path for path in (ROOT / ".github" / "workflows").glob("*.yml")}


def test_workflows_may_only_read_and_name_versions_of_actions():
    assert sorted(WORKFLOWS) == ["ci", "release"]
    for path in WORKFLOWS.values():
        text = path.read_text(encoding="utf-8")
        workflow = yaml.safe_load(text)
        assert workflow["permissions"] == {"contents": "read"}
        rights = {name: job["permissions"] for name, job in workflow["jobs"].items() if "permissions" in job}
        assert rights == ({"publish": {"id-token": "write"}} if path.stem == "release" else {})
        assert all(re.fullmatch(r"[\w/-]+@v\d+\.\d+\.\d+", use) for use in re.findall(r"uses: (\S+)", text)), path.name
        assert all("timeout-minutes" in job for job in workflow["jobs"].values())


def test_the_workflow_tests_the_pythons_of_the_project():
    listed = re.findall(r"Python :: (3\.\d+)", (ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    for name, job in (("ci", "test"), ("release", "smoke")):
        jobs = yaml.safe_load(WORKFLOWS[name].read_text(encoding="utf-8"))["jobs"]
        assert jobs[job]["strategy"]["matrix"]["python"] == listed


def test_nothing_is_published_that_was_not_tested():
    jobs = yaml.safe_load(WORKFLOWS["release"].read_text(encoding="utf-8"))["jobs"]
    assert jobs["publish"]["needs"] == ["build", "smoke"] and jobs["publish"]["environment"] == "pypi"
    assert jobs["publish"]["steps"][-1]["with"] == {"attestations": True}
    commands = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert commands.index('python -m tox run -e release -- "$GITHUB_REF_NAME"') < commands.index(
        "python -m tox run -e wheels"
    )


@pytest.mark.parametrize("job", ["lint", "docs", "wheels", "release-check"])
def test_the_workflow_runs_environments_of_tox(job):
    steps = yaml.safe_load(WORKFLOWS["ci"].read_text(encoding="utf-8"))["jobs"][job]["steps"]
    [name] = re.findall(r"tox run -e (\S+)", " ".join(step.get("run", "") for step in steps))
    assert f"[testenv:{name}]" in (ROOT / "tox.ini").read_text(encoding="utf-8")
