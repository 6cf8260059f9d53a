"""Entries for OpenModelDB: its own checker's rules, written out from its repository (src/lib/model-props.ts)."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from conftest import REPOSITORY

from rnan_plugin.__main__ import main

CAR = ("--task", "car", "--level", "10")
TEXT, COUNT = {"type": "string", "minLength": 1}, {"type": "integer", "minimum": 1}
IDENTITY = {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+)*$"}
REQUIRED = {"name", "author", "license", "tags", "description", "date", "architecture", "size", "scale"}
REQUIRED |= {"inputChannels", "outputChannels", "resources", "images"}
SCHEMA = {
    "type": "object",
    "additionalProperties": False,
    "required": [
        "name",
        "author",
        "license",
        "tags",
        "description",
        "date",
        "architecture",
        "size",
        "scale",
        "inputChannels",
        "outputChannels",
        "resources",
        "images",
    ],
    "properties": {
        "name": TEXT,
        "author": IDENTITY,
        "license": {"type": ["string", "null"]},
        # Of the catalogue's tags those that describe a restoration.
        "tags": {"type": "array", "minItems": 1, "items": {"enum": ["denoise", "jpeg", "photo", "restoration"]}},
        "description": {"type": "string", "pattern": r"^\S[\s\S]*\S$"},
        "date": {"type": "string", "pattern": r"^\d{4}-(0[1-9]|1[012])-(0[1-9]|[12][0-9]|3[01])$"},
        "architecture": {"type": "string", "pattern": "^[a-z0-9]+(-[a-z0-9]+|[+])*$"},
        "size": {"type": "array", "minItems": 1, "items": TEXT},
        "scale": COUNT | {"maximum": 16},
        "inputChannels": COUNT | {"maximum": 4},
        "outputChannels": COUNT | {"maximum": 4},
        "resources": {
            "type": "array",
            "minItems": 1,
            "items": {
                "type": "object",
                "additionalProperties": False,
                "required": ["platform", "type", "size", "sha256", "urls"],
                "properties": {
                    "platform": {"enum": ["pytorch", "onnx", "ncnn"]},
                    "type": {"enum": ["pth", "safetensors", "onnx"]},
                    "size": COUNT,
                    "sha256": {"type": "string", "pattern": "^[0-9a-f]{64}$"},
                    "urls": {"type": "array", "minItems": 1, "items": TEXT},
                },
            },
        },
        "trainingIterations": COUNT,
        "trainingOTF": {"type": "boolean"},
        "dataset": TEXT,
        "images": {"type": "array"},
    },
}


def published(out: Path, *source: str, flags: tuple[str, ...] = ("--url", "https://example.org/a/")) -> dict[str, Any]:
    command = ["export", *source, "--to"]
    assert main([*command, "pth", str(out.with_suffix(".pth"))]) == 0
    assert main([*command, "openmodeldb", "--author", "a-name", *flags, str(out)]) == 0
    return json.loads(out.read_text(encoding="utf-8"))


@pytest.mark.parametrize(
    ("task", "name", "told"),
    [
        (["car", "--level", "10"], "1x-RNAN-JPEG", {"tags": ["jpeg", "photo", "restoration"], "inputChannels": 1}),
        (["colordn", "--level", "33"], "1x-RNAN-Noise", {"tags": ["denoise", "photo"], "trainingIterations": 67000}),
        (["graydn", "--level", "30"], "1x-RNAN-Grey", {"tags": ["denoise", "photo"], "trainingIterations": 15000}),
        (["demosaic"], "1x-RNAN-Demosaic", {"tags": ["photo", "restoration"], "outputChannels": 3}),
        (["sr", "--level", "2"], "2x-RNAN", {"tags": ["photo"], "scale": 2, "size": ["32nf", "1+1b"]}),
    ],
    ids=["car", "blind", "trained twice", "demosaic", "sr"],
)
def test_a_shipped_network(task: list[str], name: str, told: dict[str, Any], tmp_path: Path) -> None:
    entry = published(tmp_path / f"{name}.json", "--task", *task)
    jsonschema.validate(entry, SCHEMA)
    assert entry == entry | told | {"name": name, "author": "a-name", "license": "MIT", "architecture": "rnan"}
    assert "BSD400" in entry["dataset"]
    assert "Licence: the weights are under the plugin's" in entry["description"]
    (file,) = entry["resources"]
    content = (tmp_path / f"{name}.pth").read_bytes()
    assert (file["size"], file["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
    assert file["urls"] == [f"https://example.org/a/{name}.pth"]


def test_a_released_network_says_what_its_publisher_says(tmp_path: Path) -> None:
    source = ["--weights", str(REPOSITORY / "tests/gold/SRx3.pt"), "--task", "sr", "--level", "3"]
    entry = published(tmp_path / "3x-A.json", *source, flags=("--license", "CC-BY-4.0"))
    assert (entry["license"], entry["scale"]) == ("CC-BY-4.0", 3)
    assert entry["description"] == "RNAN for super-resolution ×3."
    assert not {"dataset", "trainingIterations", "trainingOTF"} & entry.keys()
    assert entry["resources"][0]["urls"] == []  # nobody said where it lies


def test_what_is_wrong_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def told(
        *words: str, author: str | None = "a", source: tuple[str, ...] = ("--task", "car", "--level", "10")
    ) -> str:
        flags = [] if author is None else ["--author", author]
        assert main(["export", *source, "--to", "openmodeldb", *flags, *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    out = str(tmp_path / "1x-A.json")
    assert "nothing to download beside it" in told(out)
    assert "--author: is needed" in told(out, author=None)
    assert "no user's ID" in told(out, author="A b")
    assert "1x-NAME.json" in told(str(tmp_path / "2x-A.json"))
    assert "ends in .json" in told(str(tmp_path / "1x-A.onnx"))
    assert "with --author" in told(out, "--url", "x", author=None)
    released = ("--weights", str(REPOSITORY / "tests/gold/CAR.pt"))
    assert "name it with --task and --level" in told(out, source=released)
    assert main(["export", "--task", "car", "--level", "30", "--to", "pth", str(tmp_path / "1x-A.pth")]) == 0
    assert re.search(r"1x-A\.pth: holds another network than .*car_10\.pth", told(out))
    assert not Path(out).exists()
