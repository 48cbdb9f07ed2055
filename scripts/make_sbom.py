"""Add to wheels what they consist of: a file of CycloneDX 1.6 in their folder `.dist-info/sboms` (PEP 770), or check it.

python scripts/make_sbom.py dist/*.whl            add it, in place of an earlier one
python scripts/make_sbom.py --check dist/*.whl    print what is wrong; the exit code is 1 if something is

Everything in it is read from the wheel: equal wheels have equal files. SOURCE_DATE_EPOCH, if it is set, is its time.
"""

import argparse
import base64
import csv
import datetime
import email.parser
import hashlib
import io
import json
import os
import sys
import uuid
import zipfile
from email.message import Message
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement

DATA = (".npz", ".pack")  # endings of files that others' work is part of
DIGITS = "nbkeras/datasets/digits.npz"
PACKS = "nbkeras/kernels/packed/"


class Wheel:
    """The files of a wheel."""

    def __init__(self, path: Path):
        with zipfile.ZipFile(path) as archive:
            self.members = {info.filename: (info, archive.read(info)) for info in archive.infolist()}
        [self.folder] = {
            name.partition("/")[0] for name in self.members if name.partition("/")[0].endswith(".dist-info")
        }
        self.place = f"{self.folder}/sboms/nbkeras.cdx.json"

    def content(self, name: str) -> bytes:
        return self.members[name][1]

    def about(self, name: str) -> Message:
        """The fields of METADATA or WHEEL."""
        return email.parser.BytesParser().parsebytes(self.content(f"{self.folder}/{name}"), headersonly=True)

    def data(self) -> list[str]:
        """The files that others' work is part of."""
        return sorted(name for name in self.members if name.endswith(DATA))


def described(wheel: Wheel) -> dict[str, Any]:
    """The content of the file for a wheel."""
    about = wheel.about("METADATA")
    own = {
        "type": "library",
        **_package(about["Name"], about["Version"], about["License-Expression"]),
        "description": about["Summary"],
    }
    needed = [_needed(text) for text in _requirements(about)]
    packs = {name: _description(wheel.content(name)) for name in wheel.data() if name.startswith(PACKS)}
    [generator, version] = wheel.about("WHEEL")["Generator"].replace("(", "").replace(")", "").split()
    tools = {(generator, version)} | {
        (name, version) for each in packs.values() for name, version in each["tools"].items()
    }
    embedded = [
        {
            "type": "library",
            **_package(name, version, "BSD-2-Clause"),
            "bom-ref": f"embedded:{name}@{version}",
            "description": "functions of its library, compiled into the kernels",
        }
        for name, version in sorted(tools)
        if name == "numba"
    ]
    files = [_file(name, wheel.content(name), packs.get(name)) for name in wheel.data()]
    bom: dict[str, Any] = {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {
                "components": [
                    {"type": "application", "name": name, "version": version, "purl": _purl(name, version)}
                    for name, version in sorted(tools)
                ]
            },
            "component": own,
        },
        "components": [*files, *embedded, *needed],
        "dependencies": [
            {"ref": own["bom-ref"], "dependsOn": sorted(each["bom-ref"] for each in (*files, *needed))},
            *({"ref": name, "dependsOn": [each["bom-ref"] for each in embedded]} for name in sorted(packs)),
        ],
    }
    if os.environ.get("SOURCE_DATE_EPOCH"):
        moment = datetime.datetime.fromtimestamp(int(os.environ["SOURCE_DATE_EPOCH"]), datetime.UTC)
        bom["metadata"]["timestamp"] = moment.strftime("%Y-%m-%dT%H:%M:%SZ")
    digest = hashlib.sha256(json.dumps(bom, sort_keys=True).encode() + _contents(wheel)).hexdigest()
    bom["serialNumber"] = f"urn:uuid:{uuid.UUID(digest[:32], version=4)}"
    return bom


def _purl(name: str, version: str = "") -> str:
    kind = "generic" if name == "python" else "pypi"
    return f"pkg:{kind}/{name}{f'@{version}' if version else ''}"


def _package(name: str, version: str, licence: str) -> dict[str, Any]:
    purl = _purl(name, version)
    return {"bom-ref": purl, "name": name, "version": version, "purl": purl, "licenses": [{"license": {"id": licence}}]}


def _requirements(about: Message) -> list[str]:
    """The packages that are installed beside nbkeras; an extra may name nbkeras itself."""
    return sorted(text for text in set(about.get_all("Requires-Dist", [])) if Requirement(text).name != about["Name"])


def _needed(text: str) -> dict[str, Any]:
    """A package that is installed beside nbkeras: its range of versions and its condition are properties."""
    requirement = Requirement(text)
    return {
        "type": "library",
        "bom-ref": f"needed:{text}",
        "name": requirement.name,
        "purl": _purl(requirement.name),
        "scope": "optional" if "extra" in str(requirement.marker) else "required",
        "properties": [{"name": "nbkeras:requirement", "value": text}],
    }


def _file(name: str, content: bytes, pack: dict[str, Any] | None) -> dict[str, Any]:
    """A file of data or of kernels."""
    found: dict[str, Any] = {
        "bom-ref": name,
        "name": name,
        "hashes": [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}],
    }
    if pack is not None:
        about = f"kernels of nbkeras and functions of Numba, compiled for {pack['target']}"
        return {"type": "file", **found, "description": about, "licenses": [{"license": {"id": "MIT"}}]}
    if name != DIGITS:
        raise ValueError(f"{name} has no entry in scripts/make_sbom.py: say whose work it is, and its licence")
    return {
        "type": "data",
        **found,
        "description": "Optical Recognition of Handwritten Digits, E. Alpaydin and C. Kaynak, UCI, 1998: its test set",
        "licenses": [{"license": {"id": "CC-BY-4.0"}}],
        "externalReferences": [{"type": "website", "url": "https://doi.org/10.24432/C50P49"}],
    }


def _description(content: bytes) -> dict[str, Any]:
    """The description of a file of kernels."""
    from nbkeras.kernels.runtime.pack import Pack

    return Pack(io.BytesIO(content)).description


def _contents(wheel: Wheel) -> bytes:
    """A digest of all files but those that change when this one is added."""
    own = (wheel.place, f"{wheel.folder}/RECORD")
    parts = sorted(
        (name, hashlib.sha256(content).hexdigest()) for name, (_, content) in wheel.members.items() if name not in own
    )
    return hashlib.sha256(repr(parts).encode()).digest()


# -------------------- writing and checking --------------------


def add(path: Path) -> None:
    """Add the file to a wheel and to its list of files. The other files stay as they are."""
    wheel = Wheel(path)
    content = (json.dumps(described(wheel), indent=1) + "\n").encode()
    record = f"{wheel.folder}/RECORD"
    rows = [row for row in csv.reader(io.StringIO(wheel.content(record).decode())) if row and row[0] != wheel.place]
    rows.insert(-1, [wheel.place, *_hashed(content)])  # the last one is that of RECORD
    lines = io.StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    part = path.with_name(f"{path.name}.part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, (info, old) in wheel.members.items():
            if name == record:
                new = zipfile.ZipInfo(wheel.place, info.date_time)
                new.external_attr, new.compress_type = info.external_attr, info.compress_type
                archive.writestr(new, content)
            if name != wheel.place:
                archive.writestr(info, lines.getvalue().encode() if name == record else old)
    os.replace(part, path)


def _hashed(content: bytes) -> tuple[str, str]:
    digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()
    return f"sha256={digest}", str(len(content))


def mistakes(path: Path) -> list[str]:
    """What is wrong with the file in a wheel."""
    wheel = Wheel(path)
    if wheel.place not in wheel.members:
        return [f"{path.name} has no {wheel.place}: run scripts/make_sbom.py"]
    rows = {
        row[0]: tuple(row[1:])
        for row in csv.reader(io.StringIO(wheel.content(f"{wheel.folder}/RECORD").decode()))
        if row
    }
    found, about = json.loads(wheel.content(wheel.place)), wheel.about("METADATA")
    parts = {each["name"]: each for each in found["components"]}
    own = found["metadata"]["component"]
    pairs = {
        "the format": ((found["bomFormat"], found["specVersion"]), ("CycloneDX", "1.6")),
        "the name, version and licence": (
            (own["name"], own["version"], own["licenses"][0]["license"]["id"], own["purl"]),
            (
                about["Name"],
                about["Version"],
                about["License-Expression"],
                f"pkg:pypi/{about['Name']}@{about['Version']}",
            ),
        ),
        "the requirements": (
            sorted(value["value"] for each in found["components"] for value in each.get("properties", ())),
            _requirements(about),
        ),
        "the files of others' work": (
            {name: each["hashes"][0]["content"] for name, each in parts.items() if "hashes" in each},
            {name: hashlib.sha256(wheel.content(name)).hexdigest() for name in wheel.data()},
        ),
        "the row in RECORD": (rows.get(wheel.place), _hashed(wheel.content(wheel.place))),
    }
    if any(name.startswith(PACKS) for name in wheel.data()):
        versions = [each["version"] for each in found["components"] if each["name"] == "numba" and "version" in each]
        pairs["the versions of Numba, whose functions are in kernels"] = (len(versions) > 0, True)
    return [
        f"{what} in {wheel.place} of {path.name}: {has}, expected {expected}: run scripts/make_sbom.py"
        for what, (has, expected) in pairs.items()
        if has != expected
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheels", nargs="+", type=Path)
    parser.add_argument("--check", action="store_true", help="change nothing")
    chosen = parser.parse_args()
    if not chosen.check:
        for path in chosen.wheels:
            add(path)
    found = [mistake for path in chosen.wheels for mistake in mistakes(path)]
    for mistake in found:
        print(mistake, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
