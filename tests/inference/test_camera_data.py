"""Camera data, captions and profiles of photographs, written and read again by exiftool, in every format of results."""

from __future__ import annotations

import base64
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from kinds_of_files import SOURCES, SRGB, grey_profile, has, pillow, run, write_sources
from restored_files import (
    of_16_bits,
    option_file,
    read_result,
    restored,
)

TAGS = {
    "Make": "Acme",
    "Model": "C1",
    "DateTimeOriginal": "2020:01:02 03:04:05",
    "GPSLatitude": 47.5,
    "GPSLatitudeRef": "N",
    "LensModel": "50mm",
    "UserComment": "hello",
    "Copyright": "somebody",
    "InteropIndex": "R98",
    "ExposureTime": 0.01,
}
CARRIERS = {"jpg": "rgb8", "png": "rgb8", "tif": "rgb8", "deep.tif": "rgb16", "deep.png": "rgb16", "grey.jpg": "grey8"}


def exiftool(*arguments: object) -> list[dict[str, Any]]:
    done = subprocess.run(
        ["exiftool", "-j", "-n", "-G1", *map(str, arguments)], capture_output=True, check=True, timeout=60
    )
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


CAPTIONS = {"dc:Title": "Evening – dusk", "dc:Rights": "© Someone", "xmp:Rating": 4, "photoshop:City": "Bern"}
CAPTIONS |= {"iptcCore:Location": "the bridge", "xmpRights:Marked": True}
# How a converter developed it, what stands behind the pixels, and digests of what does not come back.
OF_THE_FILE = {
    "digiKam:ImageHistory": "edited",
    "photoshop:LegacyIPTCDigest": "0" * 32,
    "crs:Tint": 5,
    "GCamera:MicroVideo": 1,
    "dc:Format": "image/jpeg",
}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An option file of a network whose output is its input."""
    return option_file(tmp_path_factory.mktemp("identity"), is_identity=True)[0]


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photographs with camera data, taken sideways, by exiftool."""
    if not has("exiftool"):
        pytest.skip("needs exiftool")
    folder = tmp_path_factory.mktemp("photographs")
    (folder / "in").mkdir()
    write_sources(folder)
    for number, (ending, source) in enumerate(CARRIERS.items()):
        path = folder / f"in/{number}.{ending}"
        if ending.endswith("jpg"):
            pillow(source).save(
                path, quality=95, subsampling=0, icc_profile=SRGB if source == "rgb8" else grey_profile()
            )
        elif ending == "deep.png":
            cv2.imwrite(str(path), SOURCES[source][..., ::-1])
        else:
            shutil.copy(folder / f"{source}.{ending[-3:]}", path)
    values = [f"-{tag}={value}" for tag, value in TAGS.items()]
    values += [
        "-Orientation#=6",
        "-ExifImageWidth=48",
        "-ExifImageHeight=40",
        "-XMP-tiff:Orientation#=6",
        *[f"-XMP-{tag}={value}" for tag, value in {**CAPTIONS, **OF_THE_FILE}.items()],
        f"-ICC_Profile<={folder / 'srgb.icc'}",
    ]
    names = sorted((folder / "in").iterdir())
    run("exiftool", "-q", "-overwrite_original", *[part for part in values if "ICC" not in part], *names)
    run("exiftool", "-q", "-overwrite_original", values[-1], *[path for path in names if "grey" not in path.name])
    return folder


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
def test_camera_data_and_profile_come_back(photographs: Path, identity: str, ending: str, tmp_path: Path) -> None:
    shutil.copytree(photographs / "in", tmp_path / "in")
    assert restored(tmp_path, identity, {}, "--format", ending).code == 0
    results = exiftool("-b", "-ICC_Profile", "-EXIF:all", "-XMP:all", *sorted((tmp_path / "out").glob(f"*.{ending}")))
    assert len(results) == len(CARRIERS)
    for found in results:
        plain = {key.partition(":")[2]: value for key, value in found.items()}
        assert {tag: plain.get(tag) for tag in TAGS} == TAGS, found["SourceFile"]
        assert plain.get("Orientation", 1) == 1
        captions = {key.removeprefix("XMP-"): value for key, value in found.items() if key.startswith("XMP-")}
        assert {key: value for key, value in captions.items() if key != "x:XMPToolkit"} == CAPTIONS, found["SourceFile"]
        assert (plain["ExifImageWidth"], plain["ExifImageHeight"]) == (40, 48)
        grey = "5.grey" in found["SourceFile"]
        profile = plain.get("ICC_Profile", "base64:").removeprefix("base64:")
        expected = (b"" if ending == "webp" else grey_profile()) if grey else SRGB
        assert base64.b64decode(profile) == expected, found["SourceFile"]


def test_photographs_with_camera_data_stand_upright(photographs: Path, identity: str, tmp_path: Path) -> None:
    shutil.copytree(photographs / "in", tmp_path / "in")
    assert restored(tmp_path, identity, {}).code == 0
    for source in (tmp_path / "in").iterdir():
        stored = SOURCES[CARRIERS[source.name[2:]]]
        result = read_result(tmp_path / f"out/{source.stem}.png")
        assert np.abs(of_16_bits(result) - of_16_bits(np.rot90(stored, -1))).mean() < 4 * 257
