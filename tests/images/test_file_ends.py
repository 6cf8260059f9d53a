"""A file that was cut short is found without decoding it; one that is whole is not decoded."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bad_files import noise
from PIL import Image

from rnan_plugin.errors import UserError
from rnan_plugin.images import eight_bit
from rnan_plugin.images.eight_bit import image_size

KINDS: dict[str, dict[str, Any]] = {
    "jpeg": {"format": "JPEG"},
    "progressive": {"format": "JPEG", "progressive": True},
    "png": {"format": "PNG"},
    "webp": {"format": "WEBP"},
    "lossless": {"format": "WEBP", "lossless": True},
    "bmp": {"format": "BMP"},
    "tiff": {"format": "TIFF"},
    "lzw": {"format": "TIFF", "compression": "tiff_lzw"},
}


def file_of(tmp_path: Path, kind: str) -> tuple[Path, bytes]:
    buffer = io.BytesIO()
    Image.fromarray(noise(20, 30)).save(buffer, **KINDS[kind])
    return tmp_path / "image", buffer.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_whole_is_not_decoded(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, code = file_of(tmp_path, kind)
    path.write_bytes(code)
    monkeypatch.setattr(eight_bit, "decode_image", None)
    assert image_size(path) == (20, 30)


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of what is missing
@pytest.mark.parametrize("missing", [1, 40, 1000])
@pytest.mark.parametrize("kind", KINDS)
def test_what_is_cut_short_is_refused(kind: str, missing: int, tmp_path: Path) -> None:
    path, code = file_of(tmp_path, kind)
    path.write_bytes(code[:-missing])
    with pytest.raises(UserError, match="unreadable or truncated image"):
        image_size(path)


@pytest.mark.parametrize("kind", KINDS)
def test_what_stands_behind_the_image_is_none_of_it(kind: str, tmp_path: Path) -> None:
    path, code = file_of(tmp_path, kind)
    path.write_bytes(code + b"camera" * 9)
    assert image_size(path) == (20, 30)


def test_a_format_without_a_known_end_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "image"
    path.write_bytes(b"P5\n3 2\n255\n" + bytes(6))
    asked: list[str] = []
    monkeypatch.setattr(eight_bit, "decode_image", lambda _, name: asked.append(name) or np.zeros((2, 3, 1)))
    assert image_size(path) == (2, 3)
    assert asked == [str(path)]
