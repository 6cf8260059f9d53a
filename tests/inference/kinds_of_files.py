"""Kinds of files that restoring is tried on, and how each is made, most of them by other programs."""

from __future__ import annotations

import shutil
import struct
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray
from PIL import Image, ImageCms, features

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
