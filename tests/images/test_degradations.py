"""The five degradations against the paper's own input files, against other libraries, and crop against whole."""

from __future__ import annotations

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.images import bicubic
from rnan_plugin.images.color import rgb2gray, rgb2y
from rnan_plugin.images.degradations import Awgn, BayerMosaic, BicubicDown, Jpeg, degrade, degrade_crop, total_scale
from rnan_plugin.images.eight_bit import decode_image

REFERENCE = Path(os.environ.get("RNAN_REFERENCE_DIR", ""), "reference/images")
needs_reference = pytest.mark.skipif(
    "RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR (the paper's input files) is not set"
)
RNG = np.random.default_rng(0)


def read(path):
    return decode_image(path.read_bytes(), str(path))


def photo(height, width, channels=3):
    """Smooth structure with texture, so that JPEG and bicubic have something to lose."""
    noise = np.random.default_rng(1).integers(0, 256, (height, width, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 2).reshape(height, width, channels)


@needs_reference
@pytest.mark.parametrize("name", ["baboon", "barbara", "boats", "lena", "peppers"])
def test_jpeg_equals_classic5(name):
    hq = read(REFERENCE / f"car_classic5_q10/hq/{name}_HQ_Q10.png")
    lq = read(REFERENCE / f"car_classic5_q10/lq/{name}_LQ_Q10.png")
    assert hq.shape[2] == 1
    np.testing.assert_array_equal(Jpeg(10)(hq, RNG), lq)


@needs_reference
def test_mosaic_equals_kodim01():
    hq, lq = (read(REFERENCE / f"demosaic_kodim01/{part}.png") for part in ("hq", "lq"))
    np.testing.assert_array_equal(BayerMosaic()(hq, RNG), lq)


@needs_reference
@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("name", ["baby", "bird", "butterfly", "head", "woman"])
def test_bicubic_equals_set5(name, scale):
    hr = read(REFERENCE / f"sr_set5/hr/x{scale}/{name}_HR_x{scale}.png")
    lr = read(REFERENCE / f"sr_set5/lr/x{scale}/{name}_LRBI_x{scale}.png")
    np.testing.assert_array_equal(BicubicDown(scale)(hr, RNG), lr)


@needs_reference
def test_gray_equals_kodim01():
    folder = REFERENCE / "denoise_kodim01_sigma10"
    np.testing.assert_array_equal(rgb2gray(read(folder / "colour_hq.png")), read(folder / "grey_hq.png"))


@needs_reference
@pytest.mark.parametrize("channels", ["colour", "grey"])
def test_noise_has_the_statistics_of_kodim01(channels):
    """The released input is 8-bit; where nothing clips, its difference to the truth has our noise's deviation."""
    folder = REFERENCE / "denoise_kodim01_sigma10"
    hq, lq = (read(folder / f"{channels}_{part}.png").astype(np.float64) for part in ("hq", "lq"))
    ours = Awgn(10)(hq.astype(np.uint8), np.random.default_rng(0))
    inner = (hq > 60) & (hq < 195)
    released, mine = (lq - hq)[inner], (ours - hq)[inner]
    bound = 5 * 10 / np.sqrt(2 * inner.sum())  # five standard errors of a standard deviation
    assert abs(released.std() - mine.std()) < 2 * bound
    assert abs(mine.std() - np.sqrt(10**2 + 1 / 12)) < bound  # rounding adds a twelfth


@needs_reference
def test_bicubic_x4_gives_table_6():
    """Set5 ×4 upsampled by MATLAB-like bicubic scores 28.42 dB in the paper; here its input through another library."""
    from basicsr.utils.matlab_functions import imresize

    from rnan_plugin.toolbox.api import calculate_psnr

    store = FolderStore(str(Path(os.environ["RNAN_REFERENCE_DIR"], "data/val/Set5")))
    scores = []
    for name in store.names:
        gt = store.read(name)
        gt = gt[: gt.shape[0] // 4 * 4, : gt.shape[1] // 4 * 4]
        up = imresize(np.ascontiguousarray(BicubicDown(4)(gt, RNG)) / 255.0, 4)
        up = np.clip(np.rint(up * 255), 0, 255).astype(np.uint8)
        scores.append(calculate_psnr(up[..., ::-1], gt[..., ::-1], crop_border=4, test_y_channel=True))
    assert abs(np.mean(scores) - 28.430) < 0.005


def test_quantised_noise_is_rounded_and_clipped():
    img = photo(64, 64)
    exact = Awgn(50, quantize=False)(img, np.random.default_rng(3))
    quantised = Awgn(50)(img, np.random.default_rng(3))
    assert exact.dtype == np.float32
    assert exact.min() < 0
    assert exact.max() > 255
    np.testing.assert_array_equal(quantised, np.clip(np.floor(exact + 0.5), 0, 255))


def test_sigma_0_changes_nothing():
    np.testing.assert_array_equal(Awgn(0)(photo(9, 9), RNG), photo(9, 9))


def test_noise_is_gaussian():
    """Moments of 3·10^6 samples against those of the normal distribution, five standard errors."""
    img = np.full((1000, 1000, 3), 128, np.uint8)
    noise = (Awgn(30, quantize=False)(img, np.random.default_rng(0)) - 128) / 30
    n = noise.size
    assert abs(noise.mean()) < 5 / np.sqrt(n)
    assert abs(noise.std() - 1) < 5 / np.sqrt(2 * n)
    assert abs((noise**3).mean()) < 5 * np.sqrt(15 / n)
    assert abs((noise**4).mean() - 3) < 5 * np.sqrt(96 / n)


@pytest.mark.parametrize("pattern", ["GRBG", "RGGB", "BGGR", "GBRG"])
def test_mosaic_keeps_one_sample_per_pixel(pattern):
    img = np.maximum(photo(7, 9), 1)
    out = BayerMosaic(pattern)(img, RNG)
    assert ((out > 0).sum(axis=2) == 1).all()
    for index, colour in enumerate(pattern):
        site = (index // 2, index % 2, "RGB".index(colour))
        assert out[site] == img[site]


def test_luma_equals_opencv_free_formula_and_range():
    corners = np.array([[[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 255, 0], [0, 0, 255]]], np.uint8)
    np.testing.assert_array_equal(rgb2y(corners)[0, :, 0], [16, 235, 81, 145, 41])  # BT.601
    np.testing.assert_array_equal(rgb2gray(corners)[0, :, 0], [0, 255, 76, 150, 29])


@pytest.mark.parametrize("scale", [2, 3, 4, 5])
def test_bicubic_kernel_is_the_stretched_cubic(scale):
    """Against the cubic of Keys (a = -1/2), evaluated in float64 and normalised as MATLAB does."""
    weights, first, total = bicubic.kernel(scale)
    distance = np.abs(np.arange(first, first + len(weights)) - (scale - 1) / 2) / scale
    inner = 1.5 * distance**3 - 2.5 * distance**2 + 1
    outer = -0.5 * distance**3 + 2.5 * distance**2 - 4 * distance + 2
    expected = np.where(distance <= 1, inner, np.where(distance <= 2, outer, 0))
    np.testing.assert_allclose(np.array(weights) / total, expected / expected.sum(), atol=1e-12)
    assert distance[0] + 1 / scale > 2  # nothing of the kernel is left out


def test_bicubic_borders_differ_only_at_the_rim():
    img = photo(64, 48)
    replicate, mirror = (BicubicDown(2, border)(img, RNG) for border in ("replicate", "mirror"))
    assert (replicate != mirror).any()
    np.testing.assert_array_equal(replicate[4:-4, 4:-4], mirror[4:-4, 4:-4])


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bicubic_of_tiny_images(scale):
    for border in ("replicate", "mirror"):
        out = BicubicDown(scale, border)(np.full((scale, 2 * scale, 1), 77, np.uint8), RNG)
        np.testing.assert_array_equal(out, np.full((1, 2, 1), 77))


CHAINS = [
    [Jpeg(10)],
    [BayerMosaic()],
    [BicubicDown(2)],
    [BicubicDown(3)],
    [BicubicDown(4, "mirror")],
    [BicubicDown(2), Jpeg(30)],
    [Jpeg(30), BicubicDown(3)],
    [BicubicDown(2), BayerMosaic("RGGB"), Jpeg(30)],
    [Awgn(0), Jpeg(50)],
]


@pytest.mark.parametrize("chain", CHAINS, ids=repr)
@pytest.mark.parametrize("channels", [1, 3])
def test_crop_equals_cropping_the_whole(chain, channels):
    """At every offset of the 8×8 (16×16 for colour) grid, and at the image's rims, whose size is no multiple of it."""
    if channels == 1 and any(isinstance(degradation, BayerMosaic) for degradation in chain):
        pytest.skip("a mosaic needs colour")
    scale = total_scale(chain)
    img = photo(44 * scale - (scale == 1), 51 * scale, channels)
    whole = degrade(img, chain, RNG)
    size = 10
    for top in [*range(17), whole.shape[0] - size]:
        for left in [*range(17), whole.shape[1] - size]:
            crop = degrade_crop(img, chain, (top, left, top + size, left + size), RNG)
            np.testing.assert_array_equal(crop, whole[top : top + size, left : left + size])


class CountsPixels:
    """A degradation that records what it was given."""

    scale, margin = 1, 0

    def __init__(self):
        self.pixels = 0

    def grid(self, _):
        return 1

    def __call__(self, img, _):
        self.pixels += img.shape[0] * img.shape[1]
        return img


@pytest.mark.parametrize("chain", [[Jpeg(10)], [BicubicDown(4)], [BayerMosaic()], [Awgn(30)]], ids=repr)
def test_crop_costs_the_crop(chain):
    counter = CountsPixels()
    scale, size = total_scale(chain), 48
    degrade_crop(photo(800, 800), [counter, *chain], (50, 50, 50 + size, 50 + size), RNG)
    assert counter.pixels <= ((size + 4) * scale + 2 * 16) ** 2  # the crop, a margin, and alignment; not 800×800
