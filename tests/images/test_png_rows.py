"""Upper rows of PNG images: equal to OpenCV's decoding, and left to it wherever the file is not of the plain kind."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from rnan_plugin.data.image_store import decode_box, shape_of
from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.png_rows import decode_rows


def photo(channels: int) -> np.ndarray:
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5).reshape(61, 83, channels)


needs_filter = pytest.mark.skipif(not hasattr(cv2, "IMWRITE_PNG_FILTER"), reason="this OpenCV always filters PNG rows")


@needs_filter
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("rows", [(0, 61), (0, 1), (60, 61), (17, 40)])
def test_rows_equal_those_of_the_whole_image(channels: int, rows: tuple[int, int]) -> None:
    img = photo(channels)
    code = encode_png(img, filtered=False)
    np.testing.assert_array_equal(decode_image(code, ""), img)
    found = decode_rows(memoryview(code), *rows)
    assert found is not None
    np.testing.assert_array_equal(found, img[slice(*rows)])


@needs_filter
def test_rows_below_are_not_inflated() -> None:
    code = encode_png(photo(3), filtered=False)
    np.testing.assert_array_equal(decode_rows(code[: len(code) // 2], 0, 20), photo(3)[:20])
    assert decode_rows(code[: len(code) // 2], 0, 61) is None


def saved(img: Image.Image, **options: object) -> bytes:
    buffer = io.BytesIO()
    img.save(buffer, "PNG", **options)
    return buffer.getvalue()


OTHERS = {
    "filtered": encode_png(photo(3)),
    "16 bits": cv2.imencode(".png", photo(3).astype(np.uint16))[1].tobytes(),
    "palette": saved(Image.fromarray(photo(3)).convert("P")),
    "alpha": saved(Image.fromarray(photo(3)).convert("RGBA")),
    "bitmap": saved(Image.fromarray(photo(1)[..., 0]).convert("1")),
    "jpeg": cv2.imencode(".jpg", photo(3))[1].tobytes(),
    "empty": b"",
}


@pytest.mark.parametrize("kind", OTHERS)
def test_other_files_are_left_to_another_decoder(kind: str) -> None:
    assert decode_rows(OTHERS[kind], 0, 5) is None


@pytest.mark.parametrize("kind", ["filtered", "palette", "bitmap", "jpeg"])
def test_box_of_any_file_is_that_of_the_whole_image(kind: str) -> None:
    whole = decode_image(OTHERS[kind], "")
    np.testing.assert_array_equal(decode_box(OTHERS[kind], (5, 7, 30, 60), "x"), whole[5:30, 7:60])
    assert shape_of(OTHERS[kind], "x") == whole.shape


def test_box_outside_the_image_is_an_error() -> None:
    for code in (encode_png(photo(3)), encode_png(photo(3), filtered=False)):
        with pytest.raises(UserError, match=r"x: smaller than meta_info\.txt says"):
            decode_box(code, (20, 0, 62, 10), "x")
