"""Files of real kinds, most of them made by other programs, restored and read again by other programs.

The network is the identity, so that a result differs from its file only where reading or writing does.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from kinds_of_files import (
    JPEG_LEVELS,
    KINDS,
    SOURCES,
    SRGB,
    Array,
    grey_profile,
    has,
    run,
    write_sources,
)
from PIL import Image
from restored_files import (
    Restored,
    difference,
    of_16_bits,
    option_file,
    read_by_pillow,
    read_result,
    restored,
)


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An option file of a network whose output is its input."""
    return option_file(tmp_path_factory.mktemp("identity"), is_identity=True)[0]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, str]]:
    """A folder with a file of each kind, and why some are not there."""
    folder, made_of = tmp_path_factory.mktemp("kinds"), tmp_path_factory.mktemp("sources")
    (folder / "in").mkdir()
    write_sources(made_of)
    unmade = {}
    for name, kind in KINDS.items():
        absent = [program for program in kind.needs if not has(program)]
        if absent:
            unmade[name] = f"needs {', '.join(absent)} to be made"
            continue
        try:
            kind.make(folder / "in" / name, made_of)
        except subprocess.CalledProcessError as error:  # built without the format
            (folder / "in" / name).unlink(missing_ok=True)
            unmade[name] = f"{kind.needs[0]} can't make it: {error.stderr.decode(errors='replace').strip()[:80]}"
    return folder, unmade


@pytest.fixture(scope="module")
def to_png(files: tuple[Path, dict[str, str]], identity: str) -> Restored:
    return restored(*files[:1], identity, files[1])


@pytest.fixture(scope="module")
def to_same(files: tuple[Path, dict[str, str]], identity: str, tmp_path_factory: pytest.TempPathFactory) -> Restored:
    folder = tmp_path_factory.mktemp("same")
    shutil.copytree(files[0] / "in", folder / "in")
    return restored(folder, identity, files[1], "--format", "same")


GOOD = [name for name, kind in KINDS.items() if not kind.line]
REFUSED = [name for name, kind in KINDS.items() if kind.line]
# Of the printing inks the profile makes colours; see below.
EXACT = [name for name in GOOD if not name.startswith("printed")]


def test_there_are_more_than_forty_kinds() -> None:
    assert len(GOOD) >= 80


@pytest.mark.parametrize("name", EXACT)
def test_pixels_come_back(to_png: Restored, name: str) -> None:
    source, result = to_png.pair(name)
    kind = KINDS[name]
    truth = of_16_bits(SOURCES[kind.truth] if kind.truth else read_by_pillow(source))
    lossy = JPEG_LEVELS if not kind.truth and source.suffix not in {".webp", ".png"} else 0
    assert difference(of_16_bits(read_result(result)), truth) <= max(kind.tolerance, lossy)


@pytest.mark.parametrize("name", EXACT)
def test_depth_channels_and_notes_are_those_of_the_file(to_png: Restored, name: str) -> None:
    _, result = to_png.pair(name)
    kind = KINDS[name]
    header = result.read_bytes()[24:26]  # bits, colour type
    like = SOURCES[kind.truth] if kind.truth else None
    if like is not None:
        assert tuple(header) == (8 * like.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[like.shape[2]])
    elif name.startswith("grey"):
        assert tuple(header) == (8, 0)
    told = [line for line in to_png.out.splitlines() if f"/{name}: " in line]
    assert bool(kind.note) <= any(kind.note in line for line in told)
    assert (like is not None and like.shape[2] < 3) <= any("grey, restored as R = G = B" in line for line in told)


@pytest.mark.skipif(not has("convert"), reason="needs ImageMagick")
@pytest.mark.parametrize("name", EXACT)
def test_imagemagick_sees_the_same(to_png: Restored, name: str) -> None:
    source, result = to_png.pair(name)
    if source.suffix == ".avif" or name in {"exif_behind.png", "turned.webp", *ODD_FOR_MAGICK}:
        pytest.skip("read in another way by some of its versions")
    if KINDS[name].tolerance:
        pytest.skip("stored with fewer levels")
    seen = [by_imagemagick(path) for path in (source, result)]
    lossy = JPEG_LEVELS if source.suffix in {".jpg", ".jpe", ".jfif", ".webp"} or name == "jpeg.tif" else 0
    lossy = max(lossy, 256 if source.name == "palette.tif" else 0)  # whose colours have 16 bits, not multiples of 257
    assert difference(seen[1], seen[0]) <= max(lossy, KINDS[name].tolerance)


# What another version makes of them is not known.
ODD_FOR_MAGICK = {"key.png", "associated.tif", "associated16.tif", "unspecified.tif", "turned_alpha_lzw.tif"}


def by_imagemagick(path: Path) -> Array:
    code = subprocess.run(
        ["convert", f"{path}[0]", "-auto-orient", "-colorspace", "sRGB", "-depth", "16", "-endian", "LSB", "rgba:-"],
        capture_output=True, check=True,
    ).stdout  # fmt: skip
    size = subprocess.run(
        ["convert", f"{path}[0]", "-auto-orient", "-format", "%h %w", "info:-"], capture_output=True, check=True
    ).stdout
    height, width = map(int, size.split())
    return np.frombuffer(code, "<u2").reshape(height, width, 4).astype(np.int64)


def test_each_file_that_can_not_be_read_is_one_line(to_png: Restored) -> None:
    lines = [line for line in to_png.err.splitlines() if line.startswith("error: ")]
    made = [name for name in REFUSED if name not in to_png.unmade]
    assert to_png.code == (1 if made else 0)
    by_name = {Path(line.removeprefix("error: ").partition(": ")[0]).name: line for line in lines}
    assert set(by_name) == set(made)
    for name in made:
        assert KINDS[name].line in by_name[name], name


@pytest.mark.parametrize("name", GOOD)
def test_the_format_is_the_files_own_where_that_is_asked_for(to_same: Restored, name: str) -> None:
    source, result = to_same.pair(name, None)
    kinds = {
        b"\x89PNG": "PNG",
        b"RIFF": "WEBP",
        b"II*\0": "TIFF",
        b"\xff\xd8\xff\xe0": "JPEG",
        b"\xff\xd8\xff\xe1": "JPEG",
    }
    kind = kinds[result.read_bytes()[:4]]
    expected = {".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
    assert result.suffix == (source.suffix if source.suffix in {*expected, ".jpg", ".jpe", ".jfif"} else ".png")
    assert kind == expected.get(result.suffix, "JPEG")
    if name in EXACT and kind != "JPEG":
        truth = of_16_bits(SOURCES[KINDS[name].truth] if KINDS[name].truth else read_by_pillow(source))
        lossy = 0 if KINDS[name].truth else JPEG_LEVELS
        assert difference(of_16_bits(read_result(result)), truth) <= max(lossy, KINDS[name].tolerance)
    elif name in EXACT:
        truth = of_16_bits(read_by_pillow(source))
        assert np.abs(of_16_bits(read_result(result)) - truth).mean() < 3 * 257


PRINTED = [name for name in KINDS if name.startswith("printed_profile")]


@pytest.mark.skipif(not has("convert"), reason="needs ImageMagick")
@pytest.mark.parametrize("name", PRINTED)
def test_inks_are_converted_through_their_profile(to_png: Restored, name: str, tmp_path: Path) -> None:
    source, result = to_png.pair(name)
    (tmp_path / "srgb.icc").write_bytes(SRGB)
    run(
        "convert", source, "-intent", "Perceptual", "-profile", tmp_path / "srgb.icc", "-depth", "8", tmp_path / "a.png"
    )
    expected, out = (cv2.imread(str(path)).astype(int) for path in (tmp_path / "a.png", result))
    assert np.abs(out - expected).max() <= 3
    with Image.open(source) as file:
        plain = np.asarray(file.convert("RGB")).astype(int)[..., ::-1]
    assert np.abs(out - plain).mean() > 10  # so that the profile makes a difference
    with Image.open(result) as file:
        assert file.info["icc_profile"][16:20] == b"RGB "


@pytest.mark.parametrize("name", ["printed.jpg", "printed.tif"])
def test_inks_without_a_profile_are_not_turned_into_their_negative(to_png: Restored, name: str) -> None:
    """Programs for printing store JPEGs inverted; dark is where there is much ink."""
    source, result = to_png.pair(name)
    with Image.open(source) as file:
        ink = np.asarray(file).astype(float)
    lightness = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    assert np.abs(read_result(result) - lightness).mean() < 4


def test_profiles_come_back_to_the_last_byte(to_png: Restored, to_same: Restored) -> None:
    for name, profile in (
        ("profile.png", SRGB),
        ("palette_profile.png", SRGB),
        ("profile.jpg", SRGB),
        ("grey_profile.jpg", grey_profile()),
    ):
        for made, ending in ((to_png, ".png"), (to_same, None)):
            if name in made.unmade:
                continue
            with Image.open(made.pair(name, ending)[1]) as file:
                assert file.info["icc_profile"] == profile, name


def test_a_gamma_that_is_no_usual_one_comes_back(to_png: Restored) -> None:
    with Image.open(to_png.pair("gamma.png")[1]) as file:
        assert file.info["gamma"] == pytest.approx(1)
