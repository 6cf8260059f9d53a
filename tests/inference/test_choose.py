"""Which weights an image gets where nobody names a level: those that were measured to gain, else none."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage
from jpeg_images import saved
from numpy.typing import NDArray

from rnan_plugin.errors import UserError
from rnan_plugin.images.estimate import luma_table
from rnan_plugin.images.photo import read_photo
from rnan_plugin.inference import choose as choose_module
from rnan_plugin.inference import shipped
from rnan_plugin.inference.choose import choose
from rnan_plugin.inference.shipped import ShippedNetwork
from rnan_plugin.paper.tasks import TASKS

PACKAGE = [
    ShippedNetwork("car", 10, 10, Path("car_10.pth"), TASKS["car"].channels, (5, 14), ((5, 0.2), (10, 1.2), (14, 0.0))),
    ShippedNetwork("car", 5, 95, Path("car_5-95.pth"), TASKS["car"].channels, (5, 80), ((5, 1.0), (80, 1.0))),
    ShippedNetwork("car", 60, 95, Path("car_rgb_60-95.pth"), "rgb", (60, 70)),
    ShippedNetwork("colordn", 50, 50, Path("colordn_50.pth"), TASKS["colordn"].channels, (40, 60)),
    ShippedNetwork("colordn", 0, 75, Path("colordn_0-75.pth"), TASKS["colordn"].channels, (3, 75)),
    ShippedNetwork("graydn", 50, 50, Path("graydn_50.pth"), TASKS["graydn"].channels, None),
    ShippedNetwork("demosaic", None, None, Path("demosaic.pth"), TASKS["demosaic"].channels),
    ShippedNetwork("sr", 2, 2, Path("sr_2.pth"), TASKS["sr"].channels),
]


@pytest.fixture(autouse=True)
def package(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (choose_module, shipped):
        monkeypatch.setattr(module, "default_networks", lambda: PACKAGE)


def image(sigma: float = 0, channels: int = 3) -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(40, 216, (3, 4, channels), dtype=np.uint8)
    smooth = cv2.resize(coarse, (256, 192), interpolation=cv2.INTER_CUBIC).reshape(192, 256, channels)
    noise = sigma * np.random.default_rng(1).standard_normal(smooth.shape)
    return np.clip(np.floor(smooth + noise + 0.5), 0, 255).astype(np.uint8)


def jpeg(quality: int) -> bytes:
    return cv2.imencode(".jpg", image(), [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()


# Networks for luma see a file of quality 9 as 10.5 would be in the range of luma, and 78 as 81.1.
QUALITIES = [
    (7, "car_5-95.pth"),
    (9, "car_10.pth"),
    (11, "car_5-95.pth"),
    (30, "car_5-95.pth"),
    (65, "car_rgb_60-95.pth"),
    (75, "car_5-95.pth"),
    (78, None),
    (90, None),
]


@pytest.mark.parametrize(("quality", "file"), QUALITIES)
def test_a_jpeg_gets_what_gains_at_its_quality(quality: int, file: str | None) -> None:
    choice = choose(jpeg(quality), image())
    assert (choice.network.file.name if choice.network else None) == file
    assert f"JPEG of quality {quality}" in choice.why
    assert ("left as it is" in choice.why) == (file is None)


@pytest.mark.parametrize(("sigma", "file"), [(0, None), (3, None), (20, "colordn_0-75.pth")])
def test_other_files_get_their_noise_removed(sigma: float, file: str | None) -> None:
    choice = choose(b"\x89PNG", image(sigma))
    assert (choice.network.file.name if choice.network else None) == file


def test_what_is_worse_than_all_that_was_measured_gets_the_strongest() -> None:
    assert choose(jpeg(2), image()).network == PACKAGE[1]
    choice = choose(b"\x89PNG", np.random.default_rng(0).integers(0, 256, (256, 256, 3), dtype=np.uint8))
    assert choice.network == PACKAGE[4]
    assert choose(jpeg(99), image()).network is None


def test_grey_images_get_no_network_for_colour() -> None:
    grey = image(channels=1)
    code = cv2.imencode(".jpg", grey, [cv2.IMWRITE_JPEG_QUALITY, 65])[1].tobytes()
    choice = choose(code, grey)
    assert choice.network is not None
    assert choice.network.file.name == "car_5-95.pth"


def test_what_nobody_measured_is_never_taken_unasked() -> None:
    noisy = image(50, 1)
    assert choose(b"", noisy).network is None
    named = choose(b"", noisy, "graydn", 50)
    assert named.network is not None
    assert named.network.file.name == "graydn_50.pth"


def test_a_level_that_is_named_is_obeyed() -> None:
    choice = choose(jpeg(90), image(), "car", 10)
    assert choice.network is not None
    assert choice.network.file.name == "car_10.pth"
    assert "warning: a JPEG of quality 90" in choice.why
    assert choose(jpeg(90), image(), "car", 20).network == PACKAGE[1]


def test_a_colour_file_gets_all_its_channels_restored_where_weights_are_for_them() -> None:
    assert choose(jpeg(65), image(), "car", 65).network == PACKAGE[2]
    grey = image(channels=1)
    assert choose(b"", grey, "car", 65).network == PACKAGE[1]


def test_a_level_beyond_all_weights_gets_the_nearest_with_a_warning() -> None:
    choice = choose(b"", image(), "colordn", 90)
    assert choice.network == PACKAGE[4]
    assert choice.why.startswith("warning: level 90, the nearest weights in the package are colordn 0-75")


def test_tasks_without_a_level_to_find() -> None:
    assert choose(b"", image(), "demosaic").network == PACKAGE[6]
    assert choose(b"", image(), "sr").network == choose(b"", image(), "sr", 2).network == PACKAGE[7]


def test_no_jpeg_has_no_artefacts_to_reduce() -> None:
    choice = choose(b"\x89PNG", image(), "car")
    assert choice.network is None
    assert choice.why == "not a JPEG file, nor was it one, so nothing to reduce"
    with pytest.raises(UserError, match=r"^level: car needs a quality, which an image without its file does not tell$"):
        choose(b"", image(), "car")


def decoded(quality: int, sigma: float = 0) -> NDArray[np.uint8]:
    """Of a photograph."""
    photo = skimage.data.astronaut()[:256, 100:356]
    noise = sigma * np.random.default_rng(1).standard_normal(photo.shape)
    noisy = np.clip(np.rint(photo + noise), 0, 255).astype(np.uint8)
    return read_photo(saved(noisy, quality), "a.jpg").pixels.astype(np.uint8)


@pytest.mark.parametrize("task", ["auto", "car"])
@pytest.mark.parametrize("code", [b"\x89PNG", b""])
def test_what_was_a_jpeg_gets_what_gains_at_its_quality(task: str, code: bytes) -> None:
    choice = choose(code, decoded(65), task)
    assert choice.network == PACKAGE[2]
    assert choice.why == "was a JPEG of quality 65: restored with car (rgb) 60-95"
    assert choice.source is not None
    assert choice.source.steps == tuple(luma_table(65).tolist())
    left = choose(code, decoded(85), task)
    assert left.network is None
    if task == "car":
        assert left.why == "was a JPEG of quality 85: left as it is, no weights in the package gain on it"


def test_a_jpeg_that_was_saved_again_gets_what_gains_at_its_first_quality() -> None:
    code = saved(decoded(30), 90)
    choice = choose(code, read_photo(code, "a.jpg").pixels)
    assert choice.network == PACKAGE[1]
    assert choice.why == "JPEG of quality 90, of 30 before: restored with car 5-95"


def test_noise_comes_before_what_a_file_was() -> None:
    noisy = decoded(95, 25)
    choice = choose(b"\x89PNG", noisy)
    assert choice.network == PACKAGE[4]
    assert choice.source is None


def test_a_level_that_is_named_needs_no_look_at_the_image() -> None:
    assert choose(b"\x89PNG", decoded(65), level=50).network == PACKAGE[3]


def test_no_weights_is_one_line() -> None:
    with pytest.raises(UserError, match=r"no weights in the package for sr 4; there are: "):
        choose(b"", image(), "sr", 4)
