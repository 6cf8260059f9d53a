"""Files of real kinds, most of them made by other programs, restored and read again by other programs.

The network is the identity, so that a result differs from its file only where reading or writing does.
"""

from __future__ import annotations

import base64
import io
import json
import shutil
import struct
import subprocess
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps, features

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN

HEIGHT, WIDTH = 40, 48
TINY = {"num_feat": 4, "num_rab": 1, "num_rnab": 0}
JPEG_LEVELS = 2 * 257  # decoders of JPEG may differ by two of 255
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
Array = NDArray[Any]


def smooth(channels: int, seed: int, dtype: Any = np.uint8) -> Array:
    """(H, W, channels) that fills its range."""
    img = np.random.default_rng(seed).random((HEIGHT, WIDTH, channels))
    img = cv2.GaussianBlur(img, (0, 0), 1.5).reshape(HEIGHT, WIDTH, channels)
    img = (img - img.min()) / (img.max() - img.min())
    return np.rint(img * np.iinfo(dtype).max).astype(dtype)


def with_holes(alpha: Array) -> Array:
    """Alpha, some of which hides all, some nothing."""
    alpha = alpha.copy()
    alpha[5:12, 5:20] = 0
    alpha[20:30, :10] = np.iinfo(alpha.dtype).max
    return alpha


def sources() -> dict[str, Array]:
    deep = np.uint16
    found = {"rgb8": smooth(3, 0), "grey8": smooth(1, 1), "rgb16": smooth(3, 2, deep), "grey16": smooth(1, 3, deep)}
    for name in ("rgb8", "grey8", "rgb16", "grey16"):
        alpha = with_holes(smooth(1, 4, found[name].dtype))
        found[name.replace("8", "a8").replace("16", "a16")] = np.dstack([found[name], alpha])
    found["few"] = found["rgb8"] // 64 * 85  # 64 colours
    found["greys"] = found["grey8"] // 32 * 36
    found["bits"] = np.where(found["grey8"] > 127, np.uint8(255), np.uint8(0))
    red, green, blue = (int(value) for value in found["few"][9, 9])
    key = (found["few"] == (red, green, blue)).all(axis=2, keepdims=True)
    found["few_keyed"] = np.dstack([found["few"], np.where(key, np.uint8(0), np.uint8(255))])
    for name in ("rgb8", "rgba8"):
        found[f"{name}_turned"] = np.rot90(found[name], -1)
    for name in ("rgba8", "rgba16"):  # multiplied by alpha, some of their levels are lost
        stored, white = multiplied(found[name]).astype(np.float64), np.iinfo(found[name].dtype).max
        colour = np.minimum(stored[..., :3] / np.maximum(stored[..., 3:], 1) * white, white)
        found[f"{name}_divided"] = np.rint(np.dstack([colour, stored[..., 3:]])).astype(found[name].dtype)
    return found


def multiplied(img: Array) -> Array:
    """Colours multiplied by alpha."""
    white = np.iinfo(img.dtype).max
    return np.dstack([np.rint(img[..., :3] * (img[..., 3:] / white)).astype(img.dtype), img[..., 3:]])


SOURCES = sources()


def pillow(name: str) -> Image.Image:
    """A source of 8 bits as Pillow holds it."""
    return Image.fromarray(SOURCES[name].squeeze())


@dataclass(frozen=True)
class Kind:
    """A kind of file.

    Args:
        make: Writes one to a path; in the folder of the sources there are `NAME.tif` and, of 8 bits, `NAME.png`.
        truth: The source that it is equal to; empty: what Pillow reads of it.
        line: Part of the line that refuses it; empty where it can be restored.
        note: Part of what is told of it beside.
        needs: Programs to make it.
        tolerance: Of the comparison, of 65535.
    """

    make: Callable[[Path, Path], None]
    truth: str = ""
    line: str = ""
    note: str = ""
    needs: tuple[str, ...] = ()
    tolerance: int = 0


def run(*command: object) -> None:
    subprocess.run([str(part) for part in command], check=True, capture_output=True, timeout=60)


def has(program: str) -> bool:
    if program == "avif":
        return features.check("avif")
    if program == "convert":  # Windows has another of this name
        path = shutil.which(program)
        told = subprocess.run([path, "-version"], check=False, capture_output=True).stdout if path else b""
        return b"ImageMagick" in told
    return shutil.which(program) is not None


def magick(source: str, *options: str, to: str = "", **expected: Any) -> Kind:
    """Made by ImageMagick of a source."""

    def make(path: Path, folder: Path) -> None:
        named = [option.format(srgb=folder / "srgb.icc") for option in options]
        run("convert", folder / f"{source}.tif", *named, f"{to}{path}")

    return Kind(make, needs=("convert",), **expected)


def program(*command: str, needs: tuple[str, ...] = (), **expected: Any) -> Kind:
    """Made by a program, in whose arguments {folder} is that of the sources and {path} the file to write."""

    def make(path: Path, folder: Path) -> None:
        run(*(part.format(folder=folder, path=path) for part in command))

    return Kind(make, needs=(command[0], *needs), **expected)


def by_pillow(source: str, more: str = "", expected: dict[str, Any] | None = None, **options: Any) -> Kind:
    """Saved by Pillow; `more` is a further frame."""

    def make(path: Path, folder: Path) -> None:  # noqa: ARG001
        frames = {"save_all": True, "append_images": [pillow(more)]} if more else {}
        pillow(source).save(path, **options, **frames)

    return Kind(make, **(expected or {}))


def by_tifffile(change: Callable[[], Array], expected: dict[str, Any], **options: Any) -> Kind:
    """Written by tifffile."""

    def make(path: Path, folder: Path) -> None:  # noqa: ARG001
        tifffile.imwrite(path, change(), **options)

    return Kind(make, **expected)


def planes(name: str) -> Array:
    return np.ascontiguousarray(np.moveaxis(SOURCES[name], -1, 0))


def turned(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = orientation
    exif[0x010F] = "Acme"
    return exif


def pnm(name: str, highest: int) -> Kind:
    """A PGM or PPM whose white is not 255 or 65535; what is stored has as few levels."""
    kind = "P6" if SOURCES[name].shape[2] == 3 else "P5"

    def make(path: Path, folder: Path) -> None:  # noqa: ARG001
        stored = SOURCES[name].astype(int) * highest // np.iinfo(SOURCES[name].dtype).max
        head = f"{kind}\n# a comment\n{WIDTH} {HEIGHT}\n{highest}\n".encode()
        path.write_bytes(head + stored.astype(">u2" if highest > 255 else "u1").tobytes())

    return Kind(make, truth=name, tolerance=65535 // highest + 129)


def chunk_behind_pixels(path: Path, folder: Path) -> None:
    """A PNG whose camera data stand behind its pixels, as some programs write them."""
    pillow("rgb8").save(path, exif=turned(6))
    code = path.read_bytes()
    start = code.index(b"eXIf") - 4
    end = start + 12 + int.from_bytes(code[start : start + 4], "big")
    path.write_bytes(code[:start] + code[end:-12] + code[start:end] + code[-12:])
    assert folder.is_dir()


def icc_profile(space: bytes, tags: dict[bytes, bytes]) -> bytes:
    """A profile of version 2 with Lab as its other side (ICC.1:2001-04, 6.1)."""
    table, body = struct.pack(">I", len(tags)), b""
    start = 128 + 4 + 12 * len(tags)
    for name, content in tags.items():
        table += name + struct.pack(">II", start + len(body), len(content))
        body += content + b"\0" * (-len(content) % 4)
    head = struct.pack(">I4sI4s4s4s", start + len(body), b"lcms", 0x02100000, b"prtr", space, b"Lab ")
    head += struct.pack(">6H4s", 2020, 1, 1, 0, 0, 0, b"acsp").ljust(44, b"\0")
    white = struct.pack(">3i", 63190, 65536, 54061)  # D50
    return (head + white).ljust(128, b"\0") + table + body


def text_tags() -> dict[bytes, bytes]:
    name = b"desc\0\0\0\0" + struct.pack(">I", 5) + b"Made\0" + b"\0" * 78
    white = b"XYZ \0\0\0\0" + struct.pack(">3i", 63190, 65536, 54061)
    return {b"desc": name, b"cprt": b"text\0\0\0\0none\0", b"wtpt": white}


def printing_profile() -> bytes:
    """A profile for CMYK whose colours are duller than the plain formula's: 2 points along each ink (lut8Type)."""
    grid = np.stack(np.meshgrid(*[[0, 1]] * 4, indexing="ij"), -1).reshape(-1, 4)
    cyan, magenta, yellow, black = grid.T
    lightness = 240 * (1 - 0.25 * cyan) * (1 - 0.3 * magenta) * (1 - 0.05 * yellow) * (1 - 0.8 * black)
    points = [lightness, 128 + 40 * (magenta - cyan) * (1 - black), 128 + 50 * (yellow - 0.6 * cyan) * (1 - black)]
    straight = bytes(range(256))
    matrix = struct.pack(">9i", *(65536 * value for value in (1, 0, 0, 0, 1, 0, 0, 0, 1)))
    lut = b"mft1\0\0\0\0" + bytes([4, 3, 2, 0]) + matrix + 4 * straight
    lut += np.rint(np.stack(points, -1)).astype(np.uint8).tobytes() + 3 * straight
    return icc_profile(b"CMYK", {**text_tags(), b"A2B0": lut})


def grey_profile() -> bytes:
    return icc_profile(b"GRAY", {**text_tags(), b"kTRC": b"curv\0\0\0\0" + struct.pack(">IH", 1, 0x01CD)})


def printed(**options: Any) -> Kind:
    def make(path: Path, folder: Path) -> None:  # noqa: ARG001
        samples = np.dstack([SOURCES["rgb8"], SOURCES["grey8"] // 3])
        Image.frombytes("CMYK", (WIDTH, HEIGHT), samples.tobytes()).save(path, **options)

    return Kind(make, note="CMYK, comes back as sRGB" if "icc_profile" in options else "CMYK without a profile")


def pictures(path: Path, folder: Path) -> None:
    """A file as phones with two lenses write them."""
    first, second = pillow("rgb8"), pillow("rgb8").resize((24, 20))
    first.save(path, "MPO", save_all=True, append_images=[second], quality=95)
    assert folder.is_dir()


def with_thumbnail(path: Path, folder: Path) -> None:
    run("convert", folder / "rgb8.tif", "-quality", "92", path)
    run("convert", folder / "grey8.tif", "-resize", "50%", path.with_suffix(".small"))
    run("exiftool", "-q", "-overwrite_original", f"-ThumbnailImage<={path.with_suffix('.small')}", path)
    path.with_suffix(".small").unlink()


def with_preview(path: Path, folder: Path) -> None:
    """A TIFF with a smaller copy of its image as a second page."""
    assert folder.is_dir()
    with tifffile.TiffWriter(path) as file:
        file.write(SOURCES["rgb8"], photometric="rgb")
        file.write(SOURCES["rgb8"][::2, ::2], photometric="rgb", subfiletype=1)


def of_four_bits(path: Path, folder: Path) -> None:
    """A grey TIFF, two pixels of which take a byte."""
    assert folder.is_dir()
    levels = SOURCES["grey8"][..., 0] // 16
    with path.open("wb") as file:
        pixels = (levels[:, ::2] << 4 | levels[:, 1::2]).astype(np.uint8).tobytes()
        tags = [(256, WIDTH), (257, HEIGHT), (258, 4), (259, 1), (262, 1), (273, 8 + 2 + 9 * 12 + 4), (277, 1)]
        tags += [(278, HEIGHT), (279, len(pixels))]
        file.write(b"II*\0\x08\0\0\0" + struct.pack("<H", len(tags)))
        file.writelines(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
        file.write(b"\0\0\0\0" + pixels)


def associated(name: str) -> Kind:
    expected = {"truth": f"{name}_divided", "tolerance": 65535 // np.iinfo(SOURCES[name].dtype).max}  # of rounding
    return by_tifffile(lambda: multiplied(SOURCES[name]), expected, photometric="rgb", extrasamples=["assocalpha"])


RGB, GREY = {"photometric": "rgb"}, {"photometric": "minisblack"}
FRAMES = "2 pages or frames"
AVIF: dict[str, Any] = {"needs": ("avif",)}
KINDS: dict[str, Kind] = {
    # PNG
    "rgb.png": magick("rgb8", to="PNG24:", truth="rgb8"),
    "grey.png": magick("grey8", truth="grey8"),
    "rgba.png": magick("rgba8", to="PNG32:", truth="rgba8"),
    "grey_alpha.png": by_pillow("greya8", expected={"truth": "greya8"}),
    "palette.png": magick("few", to="PNG8:", truth="few", note="palette, comes back in full colour"),
    "palette_of_greys.png": magick("greys", "-define", "png:color-type=3", truth="greys"),
    "palette_transparent.png": magick("few_keyed", to="PNG8:", truth="few_keyed"),
    "bits.png": magick("bits", "-define", "png:bit-depth=1", truth="bits"),
    "bits_by_ffmpeg.png": program(
        *("ffmpeg", "-v", "error", "-i", "{folder}/bits.png", "-pix_fmt", "monob", "{path}"), truth="bits"
    ),
    "grey16.png": magick("grey16", truth="grey16"),
    "rgb16.png": magick("rgb16", to="PNG48:", truth="rgb16"),
    "rgba16.png": magick("rgba16", to="PNG64:", truth="rgba16"),
    "grey_alpha16.png": magick(
        "greya16", "-define", "png:color-type=4", "-define", "png:bit-depth=16", truth="greya16"
    ),
    "rgb16_by_ffmpeg.png": program(
        *("ffmpeg", "-v", "error", "-i", "{folder}/rgb16.tif", "-pix_fmt", "rgb48be", "{path}"), truth="rgb16"
    ),
    "interlaced.png": magick("rgb8", "-interlace", "PNG", to="PNG24:", truth="rgb8"),
    "key.png": by_pillow(
        "few", transparency=tuple(int(v) for v in SOURCES["few"][9, 9]), expected={"truth": "few_keyed"}
    ),
    "profile.png": by_pillow("rgb8", icc_profile=SRGB, expected={"truth": "rgb8"}),
    "palette_profile.png": magick("few", "-profile", "{srgb}", to="PNG8:", truth="few"),
    "exif_behind.png": Kind(chunk_behind_pixels),
    "gamma.png": magick("rgb8", "-set", "gamma", "1", "-define", "png:include-chunk=gAMA", to="PNG24:", truth="rgb8"),
    "animated.png": by_pillow("rgb8", "few", {"line": f"{FRAMES} (PNG)"}),
    # JPEG
    "baseline.jpg": magick("rgb8", "-sampling-factor", "1x1", "-quality", "90"),
    "progressive.jpg": magick("rgb8", "-interlace", "JPEG", "-quality", "90"),
    "halved_colour.jpg": magick("rgb8", "-sampling-factor", "2x2", "-quality", "90"),
    "halved_across.jpg": magick("rgb8", "-sampling-factor", "2x1", "-quality", "90"),
    "grey.jpg": magick("grey8", "-quality", "90"),
    "optimised.jpg": program("cjpeg", "-optimize", "-outfile", "{path}", "{folder}/rgb8.ppm"),
    "restarts.jpg": program("cjpeg", "-restart", "1", "-outfile", "{path}", "{folder}/rgb8.ppm"),
    "arithmetic.jpg": program("cjpeg", "-arithmetic", "-outfile", "{path}", "{folder}/rgb8.ppm"),
    "rgb_within.jpg": program("cjpeg", "-rgb", "-outfile", "{path}", "{folder}/rgb8.ppm"),
    "by_ffmpeg.jpg": program(
        *("ffmpeg", "-v", "error", "-i", "{folder}/rgb8.png", "-pix_fmt", "yuvj420p", "-q:v", "2", "{path}")
    ),
    "printed.jpg": printed(quality=95),
    "printed_by_magick.jpg": magick("rgb8", "-colorspace", "CMYK", "-quality", "95", note="CMYK without a profile"),
    "printed_profile.jpg": printed(quality=95, icc_profile=printing_profile()),
    "profile.jpg": by_pillow("rgb8", icc_profile=SRGB, quality=95),
    "grey_profile.jpg": by_pillow("grey8", icc_profile=grey_profile(), quality=95),
    "thumbnail.jpg": Kind(with_thumbnail, needs=("convert", "exiftool")),
    "two_lenses.jpg": Kind(pictures),
    "name.jfif": by_pillow("rgb8", format="JPEG", quality=95),
    "name.jpe": by_pillow("rgb8", format="JPEG", quality=95),
    **{f"turned{turn}.jpg": by_pillow("rgb8", exif=turned(turn), quality=95, subsampling=0) for turn in range(1, 9)},
    # WebP
    "lossy.webp": magick("rgb8", "-quality", "90"),
    "lossless.webp": magick("rgb8", "-define", "webp:lossless=true", truth="rgb8"),
    "alpha.webp": by_pillow("rgba8", lossless=True, exact=True, expected={"truth": "rgba8"}),
    "by_cwebp.webp": program("cwebp", "-quiet", "-lossless", "{folder}/rgb8.png", "-o", "{path}", truth="rgb8"),
    "turned.webp": by_pillow("rgb8", exif=turned(8), lossless=True),
    "animated.webp": by_pillow("rgb8", "few", {"line": f"{FRAMES} (WEBP)"}),
    # TIFF
    "plain.tif": magick("rgb8", "-compress", "None", truth="rgb8"),
    "lzw.tif": magick("rgb8", "-compress", "LZW", truth="rgb8"),
    "deflate.tiff": magick("rgb8", "-compress", "Zip", truth="rgb8"),
    "packed.tif": magick("grey8", "-compress", "RLE", truth="grey8"),
    "group4.tif": magick("bits", "-compress", "Group4", truth="bits"),
    "jpeg.tif": magick("rgb8", "-compress", "JPEG", "-quality", "90"),
    "tiles.tif": program("tiffcp", "-t", "-w", "16", "-l", "16", "{folder}/rgb8.tif", "{path}", truth="rgb8"),
    "predictor.tif": program("tiffcp", "-c", "lzw:2", "{folder}/rgb16.tif", "{path}", truth="rgb16"),
    "planes_lzw.tif": program("tiffcp", "-p", "separate", "-c", "lzw", "{folder}/rgb8.tif", "{path}", truth="rgb8"),
    "alpha_lzw.tif": program("tiffcp", "-c", "lzw", "{folder}/rgba8.tif", "{path}", truth="rgba8"),
    "alpha16_lzw.tif": program("tiffcp", "-c", "lzw", "{folder}/rgba16.tif", "{path}", truth="rgba16"),
    "big_endian.tif": program("tiffcp", "-B", "{folder}/rgb16.tif", "{path}", truth="rgb16"),
    "big.tif": program("tiffcp", "-8", "{folder}/rgb8.tif", "{path}", truth="rgb8"),
    "grey16.tif": magick("grey16", "-compress", "None", truth="grey16"),
    "rgb16.tif": magick("rgb16", "-compress", "LZW", truth="rgb16"),
    "rgba16.tif": magick("rgba16", "-compress", "Zip", truth="rgba16"),
    "rgba.tif": magick("rgba8", truth="rgba8"),
    "grey_alpha.tif": magick("greya8", truth="greya8"),
    "grey_alpha16.tif": by_tifffile(
        lambda: SOURCES["greya16"], {"truth": "greya16"}, **GREY, extrasamples=["unassalpha"]
    ),
    "grey_alpha16_lzw.tif": program(
        *("tiffcp", "-c", "lzw", "{folder}/greya16.tif", "{path}"), line="save it with deflate or without compression"
    ),
    "associated.tif": associated("rgba8"),
    "associated16.tif": associated("rgba16"),
    "unspecified.tif": by_tifffile(lambda: SOURCES["rgba8"], {"truth": "rgba8"}, **RGB, extrasamples=["unspecified"]),
    "planes16.tif": by_tifffile(lambda: planes("rgb16"), {"truth": "rgb16"}, **RGB, planarconfig="separate"),
    "planes_alpha.tif": by_tifffile(
        lambda: planes("rgba8"), {"truth": "rgba8"}, **RGB, planarconfig="separate", extrasamples=["unassalpha"]
    ),
    "white_is_zero.tif": by_tifffile(
        lambda: 255 - SOURCES["grey8"][..., 0], {"truth": "grey8"}, photometric="miniswhite"
    ),
    "white_is_zero16.tif": by_tifffile(
        lambda: 65535 - SOURCES["grey16"][..., 0], {"truth": "grey16"}, photometric="miniswhite"
    ),
    "four_bits.tif": Kind(of_four_bits, truth="grey8", tolerance=17 * 257),
    "palette.tif": magick("few", "-type", "Palette", truth="few", note="palette, comes back in full colour"),
    "printed.tif": printed(),
    "printed_profile.tif": printed(icc_profile=printing_profile(), compression="tiff_lzw"),
    "turned.tif": by_tifffile(
        lambda: SOURCES["rgb8"], {"truth": "rgb8_turned"}, **RGB, extratags=[(274, 3, 1, 6, True)]
    ),
    "turned_alpha.tif": by_tifffile(
        lambda: SOURCES["rgba8"],
        {"truth": "rgba8_turned"},
        **RGB,
        extrasamples=["unassalpha"],
        extratags=[(274, 3, 1, 6, True)],
    ),
    "turned_alpha_lzw.tif": program(*("tiffcp", "-c", "lzw", "{folder}/turned.tif", "{path}"), truth="rgba8_turned"),
    "preview.tif": Kind(with_preview, truth="rgb8"),
    "pages.tif": program("tiffcp", "{folder}/rgb8.tif", "{folder}/rgb16.tif", "{path}", line=f"{FRAMES} (TIFF)"),
    "float.tif": by_tifffile(
        lambda: SOURCES["rgb8"] / np.float32(255), {"line": "floating-point numbers; save it with 8 or 16 bits"}, **RGB
    ),
    "wide.tif": by_tifffile(
        lambda: SOURCES["rgb16"].astype(np.uint32), {"line": "of type uint32; save it with 8 or 16 bits"}, **RGB
    ),
    "five.tif": by_tifffile(
        lambda: np.dstack([SOURCES["rgba8"], SOURCES["grey8"]]), {"line": "5 channels; save it with one"}, **RGB
    ),
    # BMP, PNM, GIF, AVIF, HEIC
    "rgb.bmp": magick("rgb8", to="BMP3:", truth="rgb8"),
    "palette.bmp": magick("few", "-type", "Palette", to="BMP3:", truth="few"),
    "rgba.bmp": magick("rgba8", to="BMP:", truth="rgba8"),
    "rgb.ppm": magick("rgb8", truth="rgb8"),
    "text.ppm": magick("rgb8", "-compress", "None", truth="rgb8"),
    "grey.pgm": magick("grey8", truth="grey8"),
    "rgb16.ppm": magick("rgb16", truth="rgb16"),
    "grey16.pgm": magick("grey16", truth="grey16"),
    "hundred.pgm": pnm("grey8", 100),
    "ten_bits.ppm": pnm("rgb16", 1023),
    "twelve_bits.pgm": pnm("grey16", 4095),
    "one.gif": magick("few", truth="few", note="palette, comes back in full colour"),
    "transparent.gif": magick("few_keyed", truth="few_keyed"),
    "animated.gif": program(
        "ffmpeg",
        "-v",
        "error",
        "-f",
        "lavfi",
        "-i",
        "testsrc=s=48x40:r=4:d=1",
        "{path}",
        line="4 pages or frames (GIF)",
    ),
    "photo.avif": by_pillow("rgb8", quality=90, expected=AVIF),
    "alpha.avif": by_pillow("rgba8", quality=90, expected=AVIF),
    "turned.avif": by_pillow("rgb8", quality=90, exif=turned(6), expected=AVIF),
    "photo.heic": magick("rgb8", line="HEIC needs a package: pip install pillow-heif"),
}


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> str:
    """An option file of a network whose output is its input."""
    return option_file(tmp_path_factory.mktemp("identity"), is_identity=True)[0]


def option_file(folder: Path, *, is_identity: bool = False) -> tuple[str, RNAN]:
    torch.manual_seed(0)
    net = RNAN(3, 3, **TINY)
    if is_identity:
        torch.nn.init.zeros_(net.tail[-1].weight)
        torch.nn.init.zeros_(net.tail[-1].bias)
    torch.save({"params": net.state_dict()}, folder / "net.pth")
    opt = {
        "name": "x",
        "model_type": "RestorationModel",
        "num_gpu": 0,
        "datasets": {"val": {"channels": "rgb"}},
        "network_g": {"type": "RNAN", "num_in_ch": 3, "num_out_ch": 3, **TINY},
        "path": {"pretrain_network_g": str(folder / "net.pth")},
    }
    (folder / "x.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
    return str(folder / "x.yml"), net.eval()


@dataclass(frozen=True)
class Restored:
    """A folder of files, what `restore` made of it, what it said, and why some files could not be made."""

    folder: Path
    code: int
    out: str
    err: str
    unmade: dict[str, str]

    def pair(self, name: str, ending: str | None = ".png") -> tuple[Path, Path]:
        """A file and its result, whose name may hold the file's whole."""
        if name in self.unmade:
            pytest.skip(self.unmade[name])
        source = self.folder / "in" / name
        stems = [name, Path(name).stem]
        endings = [ending] if ending else [source.suffix, ".png"]
        found = [path for stem in stems for end in endings if (path := self.folder / f"out/{stem}{end}").is_file()]
        return source, found[0]


def restored(folder: Path, network: str, unmade: dict[str, str], *arguments: str) -> Restored:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["restore", str(folder / "in"), str(folder / "out"), "-opt", network, "--jobs", "1", *arguments])
    return Restored(folder, code, out.getvalue(), err.getvalue(), unmade)


def write_sources(folder: Path) -> None:
    for name, img in SOURCES.items():
        kind = "rgb" if img.shape[2] >= 3 else "minisblack"
        extra: dict[str, Any] = {"extrasamples": ["unassalpha"]} if img.shape[2] in {2, 4} else {}
        samples = img[..., 0] if img.shape[2] == 1 else img  # else it takes rows for pages
        tifffile.imwrite(folder / f"{name}.tif", samples, photometric=kind, metadata=None, **extra)
        if img.dtype == np.uint8:
            pillow(name).save(folder / f"{name}.png")
    turn = {"extrasamples": ["unassalpha"], "extratags": [(274, 3, 1, 6, True)]}
    tifffile.imwrite(folder / "turned.tif", SOURCES["rgba8"], photometric="rgb", metadata=None, **turn)
    pillow("rgb8").save(folder / "rgb8.ppm")
    (folder / "srgb.icc").write_bytes(SRGB)


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


def of_16_bits(img: Array) -> Array:
    """(H, W, C) of any kind to (H, W, 4) of 16 bits."""
    img = img if img.ndim == 3 else img[..., None]
    img = img.astype(np.int64) * (1 if img.dtype == np.uint16 else 257)
    alpha = img[..., -1:] if img.shape[2] in {2, 4} else np.full_like(img[..., :1], 65535)
    colour = img[..., :3] if img.shape[2] >= 3 else img[..., :1].repeat(3, axis=2)
    return np.concatenate([colour, alpha], axis=2)


def read_by_pillow(path: Path) -> Array:
    """A file of 8 bits as Pillow shows it: upright, in full colour."""
    with Image.open(path) as file:
        shown = ImageOps.exif_transpose(file)
        if file.mode in {"P", "PA"} or "transparency" in file.info:
            shown = shown.convert("RGBA")
        return np.asarray(shown)


def read_result(path: Path) -> Array:
    """A result by another library than the one that wrote it: OpenCV for PNG, tifffile for TIFF, else Pillow."""
    if path.suffix == ".png":
        img = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        return (
            img if img.ndim == 2 else cv2.cvtColor(img, cv2.COLOR_BGRA2RGBA if img.shape[2] == 4 else cv2.COLOR_BGR2RGB)
        )
    return tifffile.imread(path) if path.suffix in {".tif", ".tiff"} else read_by_pillow(path)


def difference(one: Array, other: Array) -> int:
    """The largest, of 65535, in alpha and in what alpha does not hide."""
    assert one.shape == other.shape
    shown = (other[..., 3:] > 0) | [False, False, False, True]
    return int(np.abs((one - other) * shown).max())


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


# Camera data

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
# How a converter developed it, and what stands behind the pixels.
OF_THE_FILE = {"crs:Tint": 5, "GCamera:MicroVideo": 1, "dc:Format": "image/jpeg"}


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


# Precision

DEPTHS = {
    "rgb8.png": "rgb8",
    "grey8.png": "grey8",
    "rgb16.tif": "rgb16",
    "grey16.tif": "grey16",
}


def test_both_depths_equal_the_network_in_double_precision(tmp_path: Path) -> None:
    """What it makes of all bits that the file has, rounded once."""
    network, net = option_file(tmp_path)
    with torch.no_grad():
        net.tail[-1].weight *= 3
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    (tmp_path / "in").mkdir()
    write_sources(tmp_path)
    for name in DEPTHS:
        shutil.copy(tmp_path / name, tmp_path / "in" / name)
    assert restored(tmp_path, network, {}, "--policy", "whole").code == 0
    for name, source in DEPTHS.items():
        img = SOURCES[source]
        white = int(np.iinfo(img.dtype).max)
        expected = in_double(net, img / white) * white
        result = read_result(tmp_path / f"out/{Path(name).stem}.png").reshape(img.shape)
        assert result.dtype == img.dtype
        # One rounding, of grey a second; and what float32 loses of 16 bits.
        most = 0.5 + (0.1 if white == 255 else 1) + (0.5 if img.shape[2] == 1 else 0)
        assert np.abs(result - expected).max() <= most, name
        if white == 65535:  # of 8 bits alone it would have made something else
            coarse = in_double(net, np.rint(img / 257) / 255) * white
            assert np.abs(coarse - expected).mean() > 20


def in_double(net: RNAN, img: Array) -> Array:
    """(H, W, C) on 0..1 through the network; grey three times over, and the mean of it."""
    colour = img if img.shape[2] == 3 else img.repeat(3, axis=2)
    double = RNAN(3, 3, **TINY).double().eval()
    double.load_state_dict(net.state_dict())
    with torch.no_grad():
        out = double(torch.from_numpy(colour.transpose(2, 0, 1)[None].astype(np.float64)))[0].clamp(0, 1)
    out = out.permute(1, 2, 0).numpy()
    return out if img.shape[2] == 3 else out.mean(axis=2, keepdims=True)
