"""docs/serving.md has all options as they are, and the Dockerfile of the examples."""

import importlib.util
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_tables_of_options_are_up_to_date(monkeypatch):
    spec = importlib.util.spec_from_file_location("make_serving_options", ROOT / "scripts" / "make_serving_options.py")
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    monkeypatch.setattr("sys.argv", ["make_serving_options.py", "--check"])
    assert script.main() == 0, "python scripts/make_serving_options.py writes them"


def test_the_dockerfile_is_that_of_the_examples():
    document = (ROOT / "docs" / "serving.md").read_text(encoding="utf-8")
    dockerfile = (ROOT / "examples" / "serving" / "Dockerfile").read_text(encoding="utf-8")
    assert f"```dockerfile\n{dockerfile}```\n" in document
