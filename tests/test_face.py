"""The package from Python: lazy, documented, equal to the commands."""

from __future__ import annotations

import doctest
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageCms

import rnan_plugin
from rnan_plugin import face
from rnan_plugin.__main__ import main
from rnan_plugin.errors import UserError
from rnan_plugin.inference import pick
from rnan_plugin.inference.shipped import FOLDER


@pytest.fixture
def photo() -> NDArray[np.uint8]:
    coarse = np.random.default_rng(0).integers(0, 256, (5, 7, 3), dtype=np.uint8)
    return np.asarray(cv2.resize(coarse, (70, 50), interpolation=cv2.INTER_CUBIC), dtype=np.uint8)


def test_importing_is_free_of_torch_and_the_toolbox() -> None:
    code = "import sys, rnan_plugin; rnan_plugin.__version__; print({'torch', 'basicsr', 'numpy'} & set(sys.modules))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "set()\n"


def test_examples_are_true() -> None:
    assert doctest.testmod(face).failed == 0
    assert doctest.testmod(face).attempted >= 7


def test_everything_named_is_there() -> None:
    assert all(getattr(rnan_plugin, name).__doc__ for name in rnan_plugin.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'restroe'"):
        _ = rnan_plugin.restroe  # type: ignore[attr-defined]


def test_an_array_comes_out_as_the_command_writes_it(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "in.png"), photo[..., ::-1])
    assert main(["restore", str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--task", "car", "--level", "10"]) == 0
    restored = rnan_plugin.restore(photo, task="car", level=10)
    np.testing.assert_array_equal(restored[..., ::-1], cv2.imread(str(tmp_path / "out.png")))
    of_pillow = rnan_plugin.restore(Image.fromarray(photo), task="car", level=10)
    np.testing.assert_array_equal(np.asarray(of_pillow), restored)
    of_path = rnan_plugin.restore(tmp_path / "in.png", task="car", level=10, out=tmp_path / "by_function.png")
    np.testing.assert_array_equal(of_path, restored)
    assert (tmp_path / "by_function.png").read_bytes() == (tmp_path / "out.png").read_bytes()


def test_a_jpeg_that_pillow_opened_tells_its_quality(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    Image.fromarray(photo).save(tmp_path / "a.jpg", quality=30)
    restored = rnan_plugin.restore(Image.open(tmp_path / "a.jpg"))
    np.testing.assert_array_equal(np.asarray(restored), rnan_plugin.restore(tmp_path / "a.jpg"))
    assert np.any(np.asarray(restored) != np.asarray(Image.open(tmp_path / "a.jpg")))


def test_a_pillow_image_keeps_its_profile_and_camera_data_and_stands_upright(photo: NDArray[np.uint8]) -> None:
    image = Image.fromarray(photo)
    image.info["dpi"] = (300, 150)
    image.info["icc_profile"] = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    image.getexif()[0x0112] = 6
    image.getexif()[0x010F] = "Maker"
    restored = rnan_plugin.restore(image, "colordn", 50)
    assert restored.size == (50, 70)
    assert restored.info["icc_profile"] == image.info["icc_profile"]
    assert restored.info["dpi"] == (150, 300)  # turned with the pixels
    assert (restored.getexif()[0x010F], restored.getexif()[0x0112]) == ("Maker", 1)


def test_an_untouched_file_is_copied(tmp_path: Path) -> None:
    Image.new("RGB", (96, 96), (120, 120, 120)).save(tmp_path / "a.jpg", quality=99)
    rnan_plugin.restore(tmp_path / "a.jpg", out=tmp_path / "b.jpg")
    assert (tmp_path / "b.jpg").read_bytes() == (tmp_path / "a.jpg").read_bytes()


def test_weights_that_have_changed_are_read_again(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    file, results = tmp_path / "w.pth", []
    for name in ("colordn_50", "colordn_0-75"):
        file.write_bytes((FOLDER / f"{name}.pth").read_bytes())
        results.append(rnan_plugin.restore(photo, weights=str(file)))
    assert np.any(results[0] != results[1])


def test_a_network_is_loaded_once_for_all_levels_and_threads(
    photo: NDArray[np.uint8], monkeypatch: pytest.MonkeyPatch
) -> None:
    loads, build = [], pick.build_worker
    monkeypatch.setattr(pick, "build_worker", lambda *given: (loads.append(given), build(*given))[1])
    pick._loaded.cache_clear()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda level: rnan_plugin.restore(photo, "colordn", level), [20, 21, 22, 23]))
    assert len(loads) == 1


def test_grey_of_two_dimensions_stays_so(photo: NDArray[np.uint8]) -> None:
    grey = photo[..., 0]
    assert rnan_plugin.restore(grey, task="graydn", level=50).shape == grey.shape
    assert rnan_plugin.restore(grey[..., None], task="graydn", level=50).shape == (*grey.shape, 1)
    assert rnan_plugin.restore(photo, task="sr", level=2).shape == (100, 140, 3)


def test_threads_get_what_one_gets(photo: NDArray[np.uint8]) -> None:
    images = [np.roll(photo, shift, axis=1) for shift in range(4)]
    alone = [rnan_plugin.restore(img, task="car", level=10) for img in images]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda img: rnan_plugin.restore(img, task="car", level=10), images))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", ["YCbCr", "HSV", "RGBX", "RGBa", "La", "PA", "LAB"])
def test_every_mode_that_a_file_may_have_is_taken_of_pillow_too(mode: str) -> None:
    gradient = np.linspace(40, 200, 64, dtype=np.uint8)
    colours = np.tile(gradient, (64, 1)), np.tile(gradient[:, None], 64), np.full((64, 64), 90, np.uint8)
    image = Image.fromarray(np.stack(colours, 2))
    if mode == "LAB":
        profiles = (ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"))
        given = ImageCms.applyTransform(image, ImageCms.buildTransform(*profiles, "RGB", "LAB"))
    else:
        through = {"RGBa": "RGBA", "La": "LA", "PA": "P"}.get(mode, "RGB")
        given = image.convert(through).convert(mode)
    assert given is not None
    expected = {"La": image.convert("L"), "PA": given}.get(mode, image).convert("RGB")
    restored = rnan_plugin.restore(given, "colordn", 10).convert("RGB")
    limit = 30 if mode == "PA" else 6  # of few colours, whose dots are taken for noise
    assert np.abs(np.asarray(restored).astype(int) - np.asarray(expected)).mean() < limit


@pytest.mark.parametrize("level", [np.int64(50), np.float32(50)])
def test_a_number_of_numpy_is_one(photo: NDArray[np.uint8], level: Any) -> None:
    np.testing.assert_array_equal(
        rnan_plugin.restore(photo, "colordn", level), rnan_plugin.restore(photo, "colordn", 50)
    )


def test_a_home_folder_is_one(photo: NDArray[np.uint8], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    cv2.imwrite("a.png", photo)
    rnan_plugin.restore("~/a.png", "colordn", 50, out="~/b.png")
    assert (tmp_path / "b.png").exists()
    assert not Path("~").exists()


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"image": [[1, 2]]}, "image: needs an array"),
        ({"image": np.zeros((4, 4, 3))}, "uint8"),
        ({"image": np.zeros((4, 4, 5), np.uint8)}, r"shape \(4, 4, 5\)"),
        ({"image": np.zeros((0, 4, 3), np.uint8)}, "shape"),
        ({"task": "jpeg"}, "task: no 'jpeg'"),
        ({"task": None}, "level: needs a task"),
        ({"task": "foo"}, "task: no 'foo'"),
        ({"level": "a"}, "level: 'a' is not a number"),
        ({"channels": "x"}, "channels: 'x' is not one of y, gray"),
        ({"out": "p.gif"}, "p.gif: '.gif' can't be written; end it in one of"),
        ({"out": "folder.png"}, "folder.png: is a folder"),
        ({"out": f"{'a' * 300}.png"}, "a name of 304 bytes"),
        ({"out": "file/a.png"}, "file"),
        ({"policy": "whole", "tile": 4}, "tile: is of policy tile; leave it out, or policy whole"),
        ({"policy": "auto", "overlap": 4}, "overlap: is of policy tile; leave it out, or policy auto"),
        ({"level": None}, "level: car needs a quality"),
        ({"device": "abacus"}, "device: 'abacus'"),
        ({"precision": "float8"}, "precision: 'float8'"),
        ({"tile": 0}, "tile is 0"),
        ({"tile": "64"}, "tile: '64' is not a whole number"),
        ({"tile": 64.5}, "tile: 64.5 is not a whole number"),
        ({"overlap": "8"}, "overlap: '8' is not a whole number"),
        ({"window": True}, "window: True is not a whole number"),
        ({"self_ensemble": "no"}, "self_ensemble: 'no' is neither true nor false"),
        (
            {"image": np.zeros((8, 8, 4), np.uint8), "out": "a.jpg"},
            "a.jpg: JPEG has no transparency, .*; take PNG",
        ),
    ],
)
def test_mistakes_are_one_line(
    photo: NDArray[np.uint8],
    change: dict[str, object],
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "file").touch()
    arguments: dict[str, object] = {"image": photo, "task": "car", "level": 10, **change}
    with pytest.raises(UserError, match=told) as error:
        rnan_plugin.restore(**arguments)  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_evaluate_and_load_network(photo: NDArray[np.uint8], tmp_path: Path) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    evaluation = rnan_plugin.evaluate(str(tmp_path), "car", 10, tile=64, overlap=8)
    before = rnan_plugin.evaluate(str(tmp_path), "car", 10, tile=64, overlap=8, self_ensemble=True)
    assert evaluation.mean.psnr > 20
    assert evaluation.mean.psnr != before.mean.psnr
    assert evaluation.settings["parameters"] == sum(
        weight.numel() for weight in rnan_plugin.load_network("car", 10).parameters()
    )
