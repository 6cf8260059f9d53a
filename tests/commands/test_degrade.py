"""The `degrade` command: the files it writes are those the validation data sets compute."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY
from little_rights import bound, little_room, needs_bounds

import rnan_plugin
import rnan_plugin.data.degrade_folder
from rnan_plugin.data.degrade_folder import degrade_folder
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import UserError
from rnan_plugin.paper.tasks import TaskAtLevel

NAMES = ["b", "a.1", "deep/c"]
TASKS: dict[str, tuple[float | None, str, dict[str, Any], int]] = {
    # task: level, channels, degradation in an option file, scale
    "colordn": (30.0, "rgb", {"type": "awgn", "sigma": 30}, 1),
    "graydn": (50.0, "gray", {"type": "awgn", "sigma": 50}, 1),
    "demosaic": (None, "rgb", {"type": "mosaic"}, 1),
    "car": (10.0, "y", {"type": "jpeg", "quality": 10}, 1),
    "sr": (3.0, "rgb", {"type": "bicubic", "scale": 3}, 3),
}


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Smooth colour pictures, whose sides are no multiples of 2 or 3."""
    for index, name in enumerate(NAMES):
        coarse = np.random.default_rng(index).integers(0, 256, (7, 9, 3), dtype=np.uint8)
        img = cv2.resize(coarse, (65 + index, 49 - index), interpolation=cv2.INTER_CUBIC)
        path = tmp_path / "photos" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(path), img)
    return tmp_path / "photos"


def read(path: Path) -> np.ndarray:
    """(H, W, C), RGB or grey."""
    img = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert img is not None, path
    return img[..., None] if img.ndim == 2 else img[..., ::-1]


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("task", TASKS)
def test_files_equal_the_validation_samples(task: str, photos: Path, tmp_path: Path) -> None:
    level, channels, degradation, scale = TASKS[task]
    out = tmp_path / "new" / "out"
    assert degrade_folder(str(photos), out, TaskAtLevel(task, level, 7)) == len(NAMES)

    entry = {"name": "set", "type": "RestorationDataset", "phase": "val", "dataroot_gt": str(photos)}
    dataset = RestorationDataset(
        {**entry, "channels": channels, "degradation": degradation, "scale": scale, "noise_seed": 7}
    )
    assert dataset.gt_store.names == sorted(NAMES)
    for name, sample in zip(dataset.gt_store.names, (dataset[index] for index in range(len(dataset))), strict=True):
        for part in ("lq", "gt"):
            expected = sample[part].mul(255).round().numpy().transpose(1, 2, 0)
            np.testing.assert_array_equal(read(out / part / f"{name}.png"), expected)
        gt, lq = read(out / "gt" / f"{name}.png"), read(out / "lq" / f"{name}.png")
        assert gt.shape == (lq.shape[0] * scale, lq.shape[1] * scale, 3 if channels == "rgb" else 1)
        assert scale > 1 or np.any(gt != lq)
    assert set(files(out)) == {"settings.json"} | {f"{part}/{name}.png" for part in ("lq", "gt") for name in NAMES}
    assert {path.name for path in out.parent.iterdir()} == {"out"}


def test_validating_on_the_files_gives_the_same_samples(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade_folder(str(photos), out, TaskAtLevel("sr", 2.0, 0))
    entry = {"name": "set", "type": "RestorationDataset", "phase": "val", "scale": 2}
    on_the_fly = RestorationDataset(
        {**entry, "dataroot_gt": str(photos), "degradation": {"type": "bicubic", "scale": 2}}
    )
    from_files = RestorationDataset({**entry, "dataroot_gt": str(out / "gt"), "dataroot_lq": str(out / "lq")})
    for index in range(len(NAMES)):
        for part in ("lq", "gt"):
            np.testing.assert_array_equal(on_the_fly[index][part].numpy(), from_files[index][part].numpy())


@pytest.mark.parametrize(("task", "level"), [("sr", 2.0), ("colordn", 30.0), ("demosaic", None)])
def test_grey_photos_are_taken_three_times_where_colour_is_needed(
    task: str, level: float | None, tmp_path: Path
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, (12, 10), dtype=np.uint8)
    (tmp_path / "photos").mkdir()
    cv2.imwrite(str(tmp_path / "photos/a.png"), grey)
    assert degrade_folder(str(tmp_path / "photos"), tmp_path / "out", TaskAtLevel(task, level, 0)) == 1
    np.testing.assert_array_equal(read(tmp_path / "out/gt/a.png"), np.stack([grey] * 3, axis=-1))
    assert read(tmp_path / "out/lq/a.png").shape[2] == 3


def test_scale_crops_the_ground_truth(photos: Path, tmp_path: Path) -> None:
    degrade_folder(str(photos), tmp_path / "out", TaskAtLevel("sr", 4.0, 0))
    whole = read(photos / "b.png")
    assert whole.shape == (49, 65, 3)
    np.testing.assert_array_equal(read(tmp_path / "out" / "gt" / "b.png"), whole[:48, :64])
    assert read(tmp_path / "out" / "lq" / "b.png").shape == (12, 16, 3)


@pytest.mark.parametrize(
    ("task", "level", "degradation"),
    [
        ("graydn", 50.0, {"type": "Awgn", "sigma": 50.0, "quantize": True}),
        ("demosaic", None, {"type": "BayerMosaic", "pattern": "GRBG"}),
        ("car", 10.0, {"type": "Jpeg", "quality": 10}),
        ("sr", 2.0, {"type": "BicubicDown", "scale": 2, "border": "replicate"}),
    ],
)
def test_settings(task: str, level: float | None, degradation: dict[str, Any], photos: Path, tmp_path: Path) -> None:
    degrade_folder(str(photos), tmp_path / "out", TaskAtLevel(task, level, 3))
    settings = json.loads((tmp_path / "out" / "settings.json").read_text(encoding="utf-8"))
    assert settings == {
        "task": task,
        "channels": TASKS[task][1],
        "degradation": degradation,
        "noise_seed": 3,
        "images": len(NAMES),
        "rnan_plugin": rnan_plugin.__version__,
    }


def test_seed_decides_the_noise(photos: Path, tmp_path: Path) -> None:
    for folder, seed in (("one", 1), ("again", 1), ("two", 2)):
        degrade_folder(str(photos), tmp_path / folder, TaskAtLevel("colordn", 30.0, seed))
    one, again, two = (files(tmp_path / folder) for folder in ("one", "again", "two"))
    assert one == again
    for name in NAMES:
        assert one[f"gt/{name}.png"] == two[f"gt/{name}.png"]
        noise = [read(tmp_path / folder / "lq" / f"{name}.png").astype(int) for folder in ("one", "two")]
        assert np.mean(noise[0] == noise[1]) < 0.2


def test_second_run_is_refused_and_touches_nothing(photos: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    degrade_folder(str(photos), out, TaskAtLevel("car", 10.0, 0))
    before = files(out)
    with pytest.raises(UserError, match="out: exists already; remove it or choose another folder"):
        degrade_folder(str(photos), out, TaskAtLevel("car", 20.0, 0))
    assert files(out) == before
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out"}


@pytest.mark.parametrize(
    ("spoil", "task", "level", "seed", "message"),
    [
        (lambda folder: (folder / "z.png").write_bytes(b"text"), "car", 10.0, 0, r"z\.png: unreadable"),
        (lambda folder: cv2.imwrite(str(folder / "z.png"), np.zeros((3, 8, 3), np.uint8)), "sr", 4.0, 0, "smaller"),
        (None, "car", None, 0, "level: car needs a quality"),
        (None, "demosaic", 1.0, 0, "level: demosaic has no levels"),
        (None, "car", 10.5, 0, r"10\.5.*whole number"),
        (None, "car", 0.0, 0, "quality is 0"),
        (None, "sr", float("nan"), 0, "level: nan is not a whole number"),
        (None, "car", float("inf"), 0, "level: inf is not a whole number"),
        (None, "colordn", -5.0, 0, r"sigma is -5"),
        (None, "graydn", float("nan"), 0, "sigma is nan"),
        (None, "colordn", 30.0, -1, "seed: -1 is negative"),
    ],
)
def test_error_leaves_nothing_behind(
    spoil: Any,
    task: str,
    level: float | None,
    seed: int,
    message: str,
    photos: Path,
    tmp_path: Path,
) -> None:
    if spoil:
        spoil(photos)
    with pytest.raises(UserError, match=message) as error:
        degrade_folder(str(photos), tmp_path / "out", TaskAtLevel(task, level, seed))
    assert "\n" not in str(error.value)
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_all_images_that_do_not_fit_are_told_before_any_work(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("x", "y"):
        cv2.imwrite(str(photos / f"{name}.png"), np.zeros((8, 8, 4), np.uint8))
    monkeypatch.setattr(rnan_plugin.data.degrade_folder, "pair", None)
    with pytest.raises(UserError) as error:
        degrade(photos, tmp_path / "out")
    assert [line.split(": ")[0] for line in error.value.args] == [str(photos / f"{name}.png") for name in ("x", "y")]


def degrade(photos: Path, out: Path) -> int:
    return degrade_folder(str(photos), out, TaskAtLevel("car", 10.0, 0))


@pytest.mark.parametrize("name", ["n" * 240, "n" * 255, "é" * 127])
def test_output_with_a_long_name(name: str, photos: Path, tmp_path: Path) -> None:
    assert degrade(photos, tmp_path / name) == len(NAMES)
    assert {path.name for path in tmp_path.iterdir()} == {"photos", name}


OUTPUTS = [
    ("photos/deep/out", "lies in the input"),
    ("link/out", "lies in the input"),
    ("photos/a.1.png/out", r"a\.1\.png is a file, not a folder"),
    ("n" * 256, "a name of 256 bytes"),
    ("loop", "exists already"),
    ("loop/out", "is a link that leads nowhere, not a folder"),
]


@pytest.mark.parametrize(("name", "told"), OUTPUTS)
def test_output_that_is_refused(name: str, told: str, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(photos)
    (tmp_path / "loop").symlink_to("loop")
    source = tmp_path / "elsewhere" if name.startswith("photos/a") else photos
    (tmp_path / "elsewhere").symlink_to(photos / "deep")
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UserError, match=told) as error:
        degrade(source, tmp_path / name)
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before


@needs_bounds
@pytest.mark.usefixtures("photos")
def test_output_in_a_closed_folder_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "closed").mkdir(0o555)
    told = bound(tmp_path, "degrade", "photos", "closed/out", "--task", "car", "--level", "10")
    assert told.returncode == 2
    assert told.stderr.splitlines() == [
        f"error: closed/out: no permission to write into {tmp_path / 'closed'}; name another target"
    ]


def test_full_disk_is_one_line_and_leaves_nothing(photos: Path, tmp_path: Path) -> None:
    with little_room(500), pytest.raises(UserError, match=r"out: can't be written \(File too large\); make room, or"):
        degrade(photos, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["photos"]


def test_what_a_killed_run_left_is_removed_by_the_next(photos: Path, tmp_path: Path) -> None:
    with subprocess.Popen(["sleep", "60"]) as other:
        kept = [f".out.1a2b3c4d-{other.pid}.partial", ".mine.partial"]
        for name in (*kept, ".out.1a2b3c4d-999999999.partial", ".out.1a2b3c4d.partial"):
            (tmp_path / name / "lq").mkdir(parents=True)
            (tmp_path / name / "lq/a.png").touch()
        degrade(photos, tmp_path / "out")
        assert {path.name for path in tmp_path.iterdir()} == {"photos", "out", *kept}
        other.kill()


def test_a_folder_that_another_run_has_made_meanwhile_stays(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, write = rnan_plugin.data.degrade_folder, rnan_plugin.data.degrade_folder._write_pair

    def slow(*arguments: Any) -> None:
        write(*arguments)
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out/theirs.txt").touch()

    monkeypatch.setattr(module, "_write_pair", slow)
    with pytest.raises(UserError, match="out: has been made meanwhile; remove it or choose another folder"):
        degrade(photos, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["theirs.txt"]
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "out"}


def test_command_line(photos: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "rnan_plugin", "degrade", "photos", "out"]
    command += ["--task", "colordn", "--level", "50", "--seed", "5"]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    first, again = (
        subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        for _ in range(2)
    )
    assert first.returncode == 0, first.stderr
    assert first.stdout == f"{len(NAMES)} pairs in out/lq and out/gt\n"
    degrade_folder(str(photos), tmp_path / "same", TaskAtLevel("colordn", 50.0, 5))
    assert files(tmp_path / "out") == files(tmp_path / "same")
    assert again.returncode == 2
    assert again.stderr.splitlines() == ["error: out: exists already; remove it or choose another folder"]


# The authors' own files


@pytest.fixture
def reference() -> Path:
    folder = os.environ.get("RNAN_REFERENCE_DIR")
    if not folder:
        pytest.skip("RNAN_REFERENCE_DIR does not name the folder of reference outputs and benchmark images")
    return Path(folder)


def test_car_equals_the_released_files(reference: Path, tmp_path: Path) -> None:
    degrade_folder(str(reference / "data/val/Classic5"), tmp_path / "out", TaskAtLevel("car", 10.0, 0))
    released = reference / "reference/images/car_classic5_q10"
    names = [path.stem for path in sorted((tmp_path / "out" / "lq").iterdir())]
    assert names == ["baboon", "barbara", "boats", "lena", "peppers"]
    for name in names:
        for part, mark in (("lq", "LQ"), ("gt", "HQ")):
            expected = read(released / mark.lower() / f"{name}_{mark}_Q10.png")
            np.testing.assert_array_equal(read(tmp_path / "out" / part / f"{name}.png"), expected)


@pytest.mark.parametrize("scale", [2, 3])
def test_sr_equals_the_released_files(scale: int, reference: Path, tmp_path: Path) -> None:
    degrade_folder(str(reference / "data/val/Set5"), tmp_path / "out", TaskAtLevel("sr", float(scale), 0))
    released = reference / "reference/images/sr_set5"
    names = [path.stem for path in sorted((tmp_path / "out" / "lq").iterdir())]
    assert [name.removesuffix("_GT") for name in names] == ["baby", "bird", "butterfly", "head", "woman"]
    for name in names:
        stem = name.removesuffix("_GT")
        for part, file in (("lq", f"lr/x{scale}/{stem}_LRBI"), ("gt", f"hr/x{scale}/{stem}_HR")):
            expected = read(released / f"{file}_x{scale}.png")
            np.testing.assert_array_equal(read(tmp_path / "out" / part / f"{name}.png"), expected)
