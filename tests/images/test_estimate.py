"""What an image tells of its degradation, against images that were degraded on purpose."""

from __future__ import annotations

import io

import cv2
import numpy as np
import pytest
from jpeg_images import letters
from numpy.typing import NDArray
from PIL import Image

from rnan_plugin.images import estimate
from rnan_plugin.images.degradations import BayerMosaic
from rnan_plugin.images.estimate import jpeg_quality, luma_table, noise_sigma, quality_in_luma


@pytest.fixture(scope="module")
def photo() -> NDArray[np.uint8]:
    """A photograph's like: smooth regions and edges, no noise."""
    coarse = np.random.default_rng(0).integers(40, 216, (4, 6, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (384, 256), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


@pytest.mark.parametrize("quality", [1, 5, 10, 49, 50, 51, 75, 90, 95, 99, 100])
@pytest.mark.parametrize("encoder", ["opencv", "pillow"])
def test_the_quality_that_libjpeg_was_told(photo: NDArray[np.uint8], quality: int, encoder: str) -> None:
    if encoder == "opencv":
        code = cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()
    else:
        file = io.BytesIO()
        Image.fromarray(photo).save(file, "JPEG", quality=quality, progressive=True)
        code = file.getvalue()
    found = jpeg_quality(code)
    assert found is not None
    assert (luma_table(found) == luma_table(quality)).all()


@pytest.mark.parametrize("quality", [20, 50, 80])
def test_other_encoders_tables_have_the_nearest_quality(photo: NDArray[np.uint8], quality: int) -> None:
    """Tables of no libjpeg: its own, each step off by up to a tenth."""
    factors = np.random.default_rng(1).uniform(0.9, 1.1, 64)
    table = np.clip(np.rint(luma_table(quality) * factors), 1, 255).astype(int).tolist()
    file = io.BytesIO()
    Image.fromarray(photo).save(file, "JPEG", qtables=[table, table])
    found = jpeg_quality(file.getvalue())
    assert found is not None
    assert abs(found - quality) <= 2


@pytest.mark.parametrize("quality", [5, 10, 30, 45, 50, 60, 80, 90, 95])
def test_in_luma_steps_are_smaller_by_its_range(quality: int) -> None:
    """The table at the quality found, between those of whole qualities, against the file's, scaled."""
    found = quality_in_luma(quality)
    below, above = (luma_table(whole).astype(float) for whole in (int(found), int(found) + 1))
    scaled = np.minimum(luma_table(quality), 255) * 219 / 255
    inner = (luma_table(quality) < 255) & (luma_table(quality) > 1)
    assert (scaled[inner] <= below[inner] + 1).all()
    assert (scaled[inner] >= above[inner] - 1).all()
    assert quality < found < 100


def test_what_is_no_jpeg_has_no_quality(photo: NDArray[np.uint8]) -> None:
    jpeg = cv2.imencode(".jpg", photo)[1].tobytes()
    for code in (b"", b"text", cv2.imencode(".png", photo)[1].tobytes(), jpeg[:20], b"\xff\xd8" + bytes(100)):
        assert jpeg_quality(code) is None


@pytest.mark.parametrize(("sigma", "off"), [(0, 0), (5, 0.7), (10, 1), (25, 2), (50, 5), (70, 8)])
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_sigma_of_noise_that_was_added(
    photo: NDArray[np.uint8], sigma: float, off: float, channels: int, depth: type[np.unsignedinteger]
) -> None:
    large = np.concatenate([photo, photo[::-1]])[..., :channels]
    noise = sigma * np.random.default_rng(2).standard_normal(large.shape)
    step = np.iinfo(depth).max // 255
    noisy = np.clip(np.floor((large + noise) * step + 0.5), 0, 255 * step).astype(depth)
    assert noise_sigma(noisy) == pytest.approx(sigma, abs=off)


def test_texture_is_not_taken_for_noise_in_small_images() -> None:
    """A few blocks, all of them textured: what noise of sigma 5 looks like, texture may be."""
    texture = np.random.default_rng(3).integers(118, 138, (64, 64, 3), dtype=np.uint8)
    assert noise_sigma(texture) == 0
    assert noise_sigma(np.tile(texture, (8, 8, 1))) > 5


@pytest.mark.parametrize("sigma", [50, 70])
def test_what_clipping_takes_of_strong_noise_is_made_up_for(sigma: float) -> None:
    levels = np.linspace(20, 235, 512)[None, :, None].repeat(256, axis=0)
    noisy = levels + sigma * np.random.default_rng(5).standard_normal((256, 512, 1))
    assert noise_sigma(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) == pytest.approx(sigma, rel=0.07)


def test_what_is_clipped_tells_nothing() -> None:
    """Half of the image is white: noise is cut off there."""
    flat = np.full((256, 256, 3), 128.0)
    flat[:, :128] = 255
    noisy = flat + 20 * np.random.default_rng(4).standard_normal(flat.shape)
    assert noise_sigma(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) == pytest.approx(20, abs=2)


def page(size: float) -> NDArray[np.uint8]:
    return letters((320, 320), size, 14, "The quick brown fox jumps over it", (2, 12))


def mosaic(img: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return BayerMosaic()(img, np.random.default_rng()).astype(np.uint8)


@pytest.fixture
def clean(photo: NDArray[np.uint8]) -> dict[str, NDArray[np.uint8]]:
    """Images without noise, whose every block is busy."""
    rng, grey = np.random.default_rng(0), photo.mean(axis=2, keepdims=True)
    screen = np.tile(np.kron(np.array([[0, 2], [3, 1]]), np.ones((1, 1))), (256, 256))[
        : len(grey), : grey.shape[1], None
    ]
    return {
        "letters": page(0.35),
        "small letters": page(0.3),
        "mosaic": mosaic(photo),
        "screen": np.where(grey / 64 > screen, 255, 0).astype(np.uint8),
        "halftone": np.where(grey > rng.integers(0, 256, grey.shape), 255, 0).astype(np.uint8),
        "chessboard": 255 * (np.indices((160, 160)).sum(axis=0) % 2).astype(np.uint8)[..., None],
        "pale chessboard": np.uint8(120) + 20 * (np.indices((160, 160)).sum(axis=0) % 2).astype(np.uint8)[..., None],
        "pixels of a drawing": rng.choice(np.array([30, 90, 140, 200], np.uint8), (160, 160, 1)),
    }


KINDS = ["letters", "small letters", "mosaic", "screen", "halftone", "chessboard"]


@pytest.mark.parametrize("kind", [*KINDS, "pale chessboard", "pixels of a drawing"])
def test_what_is_busy_everywhere_is_not_noise(kind: str, clean: dict[str, NDArray[np.uint8]]) -> None:
    assert noise_sigma(clean[kind]) == 0


def test_noise_over_letters_is_seen() -> None:
    noisy = page(0.35) * 0.6 + 40 + 20 * np.random.default_rng(0).standard_normal((320, 320, 1))
    assert noise_sigma(np.clip(np.rint(noisy), 0, 255).astype(np.uint8)) > 15


def test_any_image_has_a_sigma() -> None:
    for shape in ((8, 8, 3), (64, 64, 1), (70, 9, 3)):
        assert noise_sigma(np.zeros(shape, np.uint8)) == 0
    assert np.isfinite(noise_sigma(np.full((80, 80, 3), 255, np.uint8)))


def test_large_images_cost_no_more_than_so_many_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_at: list[int] = []
    details = estimate._details
    monkeypatch.setattr(estimate, "_details", lambda patch: (looked_at.append(patch.size), details(patch))[1])
    assert noise_sigma(np.arange(240, dtype=np.uint8).repeat(100_000).reshape(4000, 6000, 1)) == 0
    assert 2**21 < sum(looked_at) <= 2**22


def test_a_jpeg_beyond_pillows_own_bound_tells_its_quality(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    code = cv2.imencode(".jpg", np.zeros((64, 64, 3), np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes()
    assert jpeg_quality(code) == 30


def test_the_table_is_the_one_that_luma_has(photo: NDArray[np.uint8]) -> None:
    code = bytearray(cv2.imencode(".jpg", photo, [cv2.IMWRITE_JPEG_QUALITY, 30])[1].tobytes())
    place = 2
    while (kind := code[place + 1]) != 0xDA:  # both tables, and who has which, change places
        length = int.from_bytes(code[place + 2 : place + 4], "big")
        numbers = range(place + 4, place + length, 65) if kind == 0xDB else ()
        for number in range(place + 12, place + 21, 3) if kind == 0xC0 else numbers:
            code[number] ^= 1
        place += 2 + length
    assert Image.open(io.BytesIO(code)).quantization[1] == luma_table(30).tolist()  # type: ignore[attr-defined]
    assert jpeg_quality(bytes(code)) == 30
