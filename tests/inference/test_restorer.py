"""The restore command: files of every kind in and out, what is written beside them, and what can go wrong."""

from __future__ import annotations

import errno
import json
import os
import shutil
import struct
import subprocess
import sys
import zlib
from contextlib import nullcontext
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from conftest import REPOSITORY
from PIL import Image as PillowImage
from PIL import ImageOps as PillowImageOps
from PIL import PngImagePlugin
from restored_files import describe

import rnan_plugin
from rnan_plugin import device as devices
from rnan_plugin.__main__ import main
from rnan_plugin.archs.non_local import NonLocalBlock
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.device import precision_on
from rnan_plugin.errors import UserError
from rnan_plugin.images.color import rgb2gray, rgb2y
from rnan_plugin.images.degradations import BayerMosaic
from rnan_plugin.images.estimate import jpeg_quality
from rnan_plugin.inference import restore_files, results
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.restorer import as_mosaic
from rnan_plugin.inference.whole_images import restore

GOLD = REPOSITORY / "tests/gold"
TINY = {"num_feat": 4, "num_rab": 1, "num_rnab": 1}


def photo(channels=3, size=(21, 34), seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (*size, channels), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 1.5).reshape(*size, channels)


def write(path, img):
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), img[..., ::-1])
    return str(path)


def read(path):
    img = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    return img[..., None] if img.ndim == 2 else img[..., ::-1]


def by_hand(net, img, policy):
    lq = torch.from_numpy(img.transpose(2, 0, 1)[None] / np.float32(255))
    out, _ = restore(net, lq, policy)
    return (out[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


@pytest.fixture
def option_file(tmp_path):
    """An option file of a grey network with weights beside it."""
    torch.manual_seed(0)
    net = RNAN(1, 1, **TINY)
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if isinstance(module, NonLocalBlock):
            torch.nn.init.normal_(module.w.weight, std=0.2, generator=generator)  # zero at first: no attention
    return describe(tmp_path, net, "y", TINY), net.eval()


def record_of(folder):
    """Entries by image of the record beside results."""
    lines = map(json.loads, (folder / "restore.jsonl").read_text(encoding="utf-8").splitlines())
    return {entry["image"]: entry for entry in lines}


def close(a, b):
    """Equal up to a rounding of the last level: memory layout changes the order of sums."""
    return a.shape == b.shape and np.abs(a.astype(int) - b).max() <= 1 and (a != b).mean() < 0.01


@pytest.mark.parametrize("policy", [Policy("whole"), Policy("tile", 16, 4), Policy("release")], ids=lambda p: p.name)
def test_released_weights_restore_a_folder(tmp_path, policy):
    for name, seed in (("a", 1), ("sub/b.c", 2)):
        write(tmp_path / "in" / f"{name}.png", photo(seed=seed))
    weights = str(GOLD / "DN_RGB.pt")
    tiles = ["--tile", str(policy.tile), "--overlap", str(policy.overlap)] if policy.name == "tile" else []
    arguments = ["--policy", policy.name, *tiles]
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), "--weights", weights, *arguments]) == 0
    net = rnan_plugin.load_released(weights)
    for name, seed in (("a", 1), ("sub/b.c", 2)):
        assert close(read(tmp_path / "out" / f"{name}.png"), by_hand(net, photo(seed=seed), policy))
    record = record_of(tmp_path / "out")
    assert set(record) == {"a.png", "sub/b.c.png"}
    assert all(entry["policy"] == policy.describe() for entry in record.values())
    assert all(len(entry["weights_sha256"]) == 64 for entry in record.values())
    assert not list(tmp_path.rglob("*.partial*"))


def test_auto_says_what_it_took(tmp_path, capsys):
    write(tmp_path / "a.png", photo())
    arguments = ["--weights", str(GOLD / "DN_RGB.pt"), "--self-ensemble"]
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "out.png"), *arguments]) == 0
    took = Policy("tile", 64, 8, self_ensemble=True)  # on a CPU, of attention over the queries
    assert f"(policy {took.describe()})" in "".join(capsys.readouterr())
    (entry,) = record_of(tmp_path).values()
    assert entry["policy"] == took.describe()
    expected = by_hand(rnan_plugin.load_released(GOLD / "DN_RGB.pt"), photo(), took)
    assert close(read(tmp_path / "out.png"), expected)


def test_a_damaged_image_stops_no_other_and_is_told(tmp_path, option_file, capsys):
    for name in "ac":
        write(tmp_path / f"in/{name}.png", photo(1))
    (tmp_path / "in/b.png").write_bytes(b"no image")
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), "-opt", option_file[0]]) == 1
    assert "b.png: unreadable" in capsys.readouterr().err.splitlines()[-1]
    assert set(record_of(tmp_path / "out")) == {"a.png", "c.png"}


def test_records_of_earlier_runs_stay(tmp_path, option_file):
    arguments = ["-opt", option_file[0], "--channels", "gray"]
    for name, channels in (("a", 1), ("b", 3)):
        image = write(tmp_path / f"{name}.png", photo(channels))
        assert main(["restore", image, str(tmp_path / "out"), *arguments]) == 0
    record = record_of(tmp_path / "out")
    assert list(record) == ["a.png", "b.png"]
    assert {entry["channels"] for entry in record.values()} == {"gray"}
    assert {entry["option_file"] for entry in record.values()} == {option_file[0]}


def turned_as_told(img, orientation):
    """(H, W, C) as viewers show it, by Pillow."""
    told = PillowImage.fromarray(img.squeeze())
    told.getexif()[0x0112] = orientation
    turned = np.asarray(PillowImageOps.exif_transpose(told))
    return turned.reshape(*turned.shape[:2], img.shape[2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("ending", "channels"), [("png", 1), ("jpg", 1), ("jpg", 3), ("webp", 3), ("tif", 3)])
def test_photographs_taken_sideways_stand_upright(tmp_path, option_file, orientation, ending, channels):
    """The network sees the samples as they are stored, on their 8×8 grid; a viewer's turn comes after it."""
    img = photo(channels, (16, 24))
    exif = PillowImage.Exif()
    exif[0x0112] = orientation
    by_opencv = ending == "tif"  # which turns these files while it reads them, so before the network
    plain = turned_as_told(img, orientation) if by_opencv else img
    for name, samples, extra in (("plain", plain, {}), ("turned", img, {"exif": exif})):
        file = tmp_path / f"{name}.{ending}"
        PillowImage.fromarray(samples.squeeze()).save(file, lossless=True, **extra)
        assert main(["restore", str(file), str(tmp_path / "out"), "-opt", option_file[0], "--channels", "y"]) == 0
    expected = read(tmp_path / "out/plain.png")
    expected = expected if by_opencv else turned_as_told(expected, orientation)
    np.testing.assert_array_equal(read(tmp_path / "out/turned.png"), expected)


def test_a_full_disk_is_one_line(tmp_path, option_file, capsys, monkeypatch):
    def full(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    image = write(tmp_path / "a.png", photo(1))
    monkeypatch.setattr(results, "write_whole", full)
    told = error_of([image, str(tmp_path / "out"), "-opt", option_file[0]], capsys)
    assert told.startswith(f"error: {tmp_path / 'out/a.png'}: can't be written (No space left on device)")
    assert not list((tmp_path / "out").glob("*"))


def test_one_image_stops_no_other(tmp_path, option_file, capsys, monkeypatch):
    """Whatever is wrong with it: pixels, texts, size, name; each that can't be restored is a line."""
    folder, long = tmp_path / "in", "n" * 251
    for name in ("a", "z", long):
        write(folder / f"{name}.png", photo(1))
    texts = PngImagePlugin.PngInfo()
    texts.add_text("comment", "x" * 2**22, zip=True)
    PillowImage.fromarray(photo(1)[..., 0]).save(folder / "texts.png", pnginfo=texts)
    jpeg = cv2.imencode(".jpg", photo())[1].tobytes()
    (folder / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (folder / "header.png").write_bytes(cv2.imencode(".png", photo(1))[1].tobytes()[:20])
    (folder / "empty.bmp").touch()
    (folder / "nowhere.png").symlink_to(tmp_path / "absent.png")
    ihdr = struct.pack(">IIBBBBB", 2**20 + 1, 2**20 + 1, 8, 0, 0, 0, 0)
    chunk = struct.pack(">I", len(ihdr)) + b"IHDR" + ihdr + struct.pack(">I", zlib.crc32(b"IHDR" + ihdr))
    (folder / "huge.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    (folder / "crash.pgm").write_bytes(b"P5 4 4 255 crash")
    decode = cv2.imdecode

    def sometimes(code, flags):
        if code.tobytes().endswith(b"crash"):
            raise cv2.error("OpenCV: (-215:Assertion failed) whatever")
        return decode(code, flags)

    monkeypatch.setattr(cv2, "imdecode", sometimes)
    assert main(["restore", str(folder), str(tmp_path / "out"), "-opt", option_file[0], "--jobs", "1"]) == 1
    assert set(record_of(tmp_path / "out")) == {"a.png", "z.png", "texts.png", f"{long}.png"}
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    bad = ["crash.pgm", "cut.jpg", "empty.bmp", "header.png", "huge.png", "nowhere.png"]
    assert [Path(line.removeprefix("error: ").partition(": ")[0]).name for line in lines] == bad


def test_names_that_are_no_utf8_are_kept(tmp_path, option_file, capsys):
    name = os.fsdecode(b"caf\xe9")
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/{name}.png").write_bytes(cv2.imencode(".png", photo(1))[1].tobytes())
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), "-opt", option_file[0]]) == 0
    assert (tmp_path / f"out/{name}.png").is_file()
    assert list(record_of(tmp_path / "out")) == ["caf\\xe9.png"]
    assert "caf\\xe9.png -> " in capsys.readouterr().out


def test_pipes_are_one_line(tmp_path, option_file, capsys):
    os.mkfifo(tmp_path / "pipe.png")
    told = error_of([str(tmp_path / "pipe.png"), str(tmp_path / "out"), "-opt", option_file[0]], capsys)
    assert told == f"error: {tmp_path / 'pipe.png'}: neither an image file nor a folder; check the path"


def test_images_without_room_are_told_before(tmp_path, option_file, capsys, monkeypatch):
    monkeypatch.setattr(restore_files, "available_bytes", lambda _: 2000)
    told = error_of([write(tmp_path / "a.png", photo(1)), str(tmp_path / "out"), "-opt", option_file[0]], capsys)
    assert told.startswith(f"error: {tmp_path / 'a.png'}: 21×34 pixels take 0.0 GiB, 0.0 GiB are free")


def test_results_inside_the_source_are_no_sources(tmp_path, option_file):
    write(tmp_path / "a.png", photo(1))
    for _ in range(2):
        assert main(["restore", str(tmp_path), str(tmp_path / "restored"), "-opt", option_file[0]]) == 0
    assert [path.name for path in (tmp_path / "restored").rglob("*.png")] == ["a.png"]


def test_tiles_are_meant_where_their_side_is_given(tmp_path, option_file):
    image = write(tmp_path / "a.png", photo(1))
    assert main(["restore", image, str(tmp_path / "out"), "-opt", option_file[0], "--tile", "16"]) == 0
    assert record_of(tmp_path / "out")["a.png"]["policy"] == "tile 16, overlap 4, blended"


def test_super_resolution_enlarges(tmp_path):
    write(tmp_path / "a.png", photo())
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path), "--weights", str(GOLD / "SRx3.pt")]) == 2  # itself
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "o"), "--weights", str(GOLD / "SRx3.pt")]) == 0
    assert read(tmp_path / "o/a.png").shape == (63, 102, 3)


def test_one_channel_network_on_colour(tmp_path, option_file, capsys):
    """Luma is restored and chroma kept; gray gives grey; a grey image stays grey."""
    path, net = option_file
    img = photo()
    write(tmp_path / "in/colour.png", img)
    write(tmp_path / "in/grey.png", photo(1))
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "y"), "-opt", path]) == 0
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "g"), "-opt", path, "--channels", "gray"]) == 0
    told = capsys.readouterr().out
    assert told.count("colour.png: colour, but") == 1  # with gray
    assert told.count("colour.png: its luma is restored, its chroma is as it was") == 1  # with Y
    whole = Policy("whole")
    assert close(read(tmp_path / "y/grey.png"), by_hand(net, photo(1), whole))
    assert close(read(tmp_path / "g/colour.png"), by_hand(net, rgb2gray(img), whole))
    out, luma = read(tmp_path / "y/colour.png"), by_hand(net, rgb2y(img), whole)
    inside = ((out > 0) & (out < 255)).all(axis=2)
    assert np.abs(rgb2y(out).astype(int) - luma)[inside].max() <= 2
    chroma = [image[..., :1].astype(int) - image[..., 1:] for image in (out, img)]
    assert np.abs(chroma[0] - chroma[1])[inside].max() <= 1


@pytest.mark.parametrize(("weights", "scale"), [("DN_RGB", 1), ("SRx3", 3)])
def test_colour_network_on_grey_gives_the_mean_of_its_colours(tmp_path, capsys, weights, scale):
    grey, file = photo(1), str(GOLD / f"{weights}.pt")
    out = str(tmp_path / "out.png")
    assert main(["restore", write(tmp_path / "a.png", grey), out, "--weights", file, "--policy", "whole"]) == 0
    assert (
        "a.png: grey, restored as R = G = B by a network for colour; the result is the mean" in capsys.readouterr().out
    )
    colours = by_hand(rnan_plugin.load_released(file), grey.repeat(3, axis=2), Policy("whole"))
    result = cv2.imread(out, cv2.IMREAD_UNCHANGED)
    assert result.shape == (21 * scale, 34 * scale)
    assert np.abs(result - colours.mean(axis=2)).max() <= 0.5 + 1 / 3
    assert (colours.min(axis=2) < colours.max(axis=2)).any()  # so that the mean is something else than any of them


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_narrow_types_stay_near(tmp_path, option_file, precision):
    path, net = option_file
    torch.nn.init.normal_(net.tail[-1].weight)  # what the layers add is large
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    write(tmp_path / "a.png", photo(1))
    arguments = ["-opt", path, "--precision", precision]
    assert main(["restore", str(tmp_path / "a.png"), str(tmp_path / "out.png"), *arguments]) == 0
    expected, out = by_hand(net, photo(1), Policy("whole")).astype(int), read(tmp_path / "out.png").astype(int)
    added = np.abs(expected - photo(1)).mean()
    assert added > 5
    assert 0 < np.abs(out - expected).mean() < 2**-5 * added  # bfloat16 has 8 bits, a dozen layers lose 3 of them


@pytest.mark.parametrize("policy", ["whole", "tile"])
def test_what_overflows_is_told_and_not_written(tmp_path, option_file, capsys, policy):
    path, net = option_file
    torch.nn.init.constant_(net.tail[-1].weight, 3e38)
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    source = write(tmp_path / "a.png", photo(1))
    tiles = ["--tile", "16"] if policy == "tile" else []
    assert main(["restore", source, str(tmp_path / "out.png"), "-opt", path, "--policy", policy, *tiles]) != 0
    told = capsys.readouterr().err
    assert "a.png: the network gave values that are no finite numbers; take float32 precision" in told
    assert "Traceback" not in told
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(("ratio", "taken"), [(0.5, "bfloat16"), (0.9, "float32"), (2.0, "float32")])
def test_automatic_precision_is_narrow_where_that_is_fast_and_says_so(
    tmp_path, option_file, capsys, monkeypatch, ratio, taken
):
    monkeypatch.setattr(devices, "_time_ratio", lambda _: ratio)
    source, common = write(tmp_path / "a.png", photo(1)), ["-opt", option_file[0], "--device", "cpu"]
    for name, precision in (("auto", "auto"), ("named", taken)):
        arguments = ["restore", source, str(tmp_path / name / "a.png"), *common, "--precision", precision]
        assert main(arguments) == 0
        assert (", bfloat16)" in capsys.readouterr().out) == (taken == "bfloat16")
        assert [entry["precision"] for entry in record_of(tmp_path / name).values()] == [taken]
    assert np.array_equal(read(tmp_path / "auto/a.png"), read(tmp_path / "named/a.png"))


def test_automatic_precision_is_measured_once_and_only_where_it_is_asked_for(monkeypatch):
    runs = []
    monkeypatch.setattr(devices, "autocast", lambda _, precision: runs.append(precision) or nullcontext())
    devices._time_ratio.cache_clear()
    assert precision_on(torch.device("meta"), "auto") == precision_on(torch.device("cpu"), "float32") == "float32"
    assert not runs
    assert precision_on(torch.device("cpu"), "auto") == precision_on(torch.device("cpu"), "auto")
    assert len(runs) == 2 * devices._TIMED
    assert set(runs) == {"float32", "bfloat16"}
    devices._time_ratio.cache_clear()  # both were in float32 here


@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler (g++) on the CPU")
def test_compiled_restores_the_same(tmp_path, option_file):
    path, net = option_file
    images = [photo(1, (16, 20), 0), photo(1, (21, 34), 1)]
    for name, img in zip("ab", images, strict=True):
        write(tmp_path / f"in/{name}.png", img)
    arguments = ["-opt", path, "--compile", "--policy", "whole"]
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), *arguments]) == 0
    for name, img in zip("ab", images, strict=True):
        assert close(read(tmp_path / f"out/{name}.png"), by_hand(net, img, Policy("whole")))
    assert all(entry["compiled"] for entry in record_of(tmp_path / "out").values())


def test_compiling_without_a_compiler_is_one_line(tmp_path, option_file):
    command = ["restore", write(tmp_path / "a.png", photo(1)), str(tmp_path / "out.png"), "-opt", option_file[0]]
    done = subprocess.run(
        [sys.executable, "-m", "rnan_plugin", *command, "--compile"],
        env={**os.environ, "CXX": str(tmp_path / "no-compiler")},
        capture_output=True,
        text=True,
        check=False,
    )
    line = done.stderr.strip().splitlines()[-1]
    assert (done.returncode, line[:17]) == (2, "error: --compile:")
    assert "install g++" in line
    assert not (tmp_path / "out.png").exists()


def error_of(arguments, capsys):
    assert main(["restore", *arguments]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_what_can_go_wrong(tmp_path, option_file, capsys):
    path, _ = option_file
    image, weights = write(tmp_path / "in/a.png", photo()), str(GOLD / "CAR.pt")
    folder, out = str(tmp_path / "in"), str(tmp_path / "out")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad/b.png").write_bytes(b"no image")
    cases = [
        ([image, out, "--level", "10"], "--level: needs --task"),
        ([image, out, "--weights", "absent.pt"], "absent.pt: no such file"),
        ([image, out, "--weights", str(tmp_path / "net.pth")], "does not say what its network is"),
        ([image, out, "-opt", path, "--weights", weights], "weights of another network"),
        ([image, out, "--weights", weights], "--channels"),
        ([str(tmp_path / "absent"), out, "-opt", path], "no such image or folder"),
        ([folder, str(tmp_path / "out.png"), "-opt", path], "out.png: several images need a folder to write to"),
        ([image, str(tmp_path / "out.bmp"), "-opt", path], "out.bmp: '.bmp' can't be written; end it in one of .jfif"),
        ([image, str(tmp_path / "out.pgn"), "-opt", path], "out.pgn: '.pgn' can't be written; end it in"),
        ([image, out, "-opt", path, "--quality", "0"], "--quality: 0 is not from 1 to 100"),
        ([image, str(tmp_path / "out.png"), "-opt", path, "--format", "jpg"], "--format: jpg, but the target"),
        ([image, str(tmp_path / "out.png"), "-opt", path, "--suffix", "_x"], "--suffix: goes with a folder"),
        ([image, str(tmp_path / "out.png"), "-opt", path, "--quality", "3"], "--quality: .png loses nothing"),
        ([image, out, "-opt", path, "--quality", "3"], "--quality: in a folder results are PNG, which loses nothing"),
        ([image, out, "-opt", path, "--quality", "3", "--format", "tif"], "--quality: tif loses nothing"),
        ([image, out, "-opt", path, "--suffix", "/x"], "--suffix: '/x' can't be a part"),
        ([image, out, "-opt", path, "--jobs", "0"], "--jobs: 0 is not from 1 to 1024"),
        ([str(tmp_path / "*.webp"), out, "-opt", path], "nothing matches this pattern"),
        ([str(tmp_path / "bad"), out, "-opt", path], "b.png: unreadable"),
        ([image, out, "-opt", path, "--tile", "16", "--overlap", "9"], "overlap (tile_overlap) is 9"),
        ([image, out, "-opt", path, "--tile", "0"], "tile is 0, must be 1 or more"),
        ([image, out, "-opt", path, "--tile-batch", "0"], "tile_batch is 0, must be 1 or more"),
        (
            [image, out, "-opt", path, "--policy", "whole", "--tile", "64"],
            "tile: is of policy tile; leave it out, or policy whole",
        ),
        ([image, out, "-opt", path, "--policy", "auto", "--overlap", "8"], "overlap: is of policy tile; leave it out"),
        ([image, out, "-opt", path, "--policy", "release", "--window", "48"], "window (attention_window) is of tiles"),
        ([image, str(GOLD / "CAR.pt/out"), "-opt", path], "CAR.pt is a file, not a folder"),
        ([image, out, "-opt", path, "--device", "abacus"], "device: 'abacus' is not one of auto, cpu, cuda, mps"),
    ]
    for arguments, fragment in cases:
        assert fragment in error_of(arguments, capsys)
    assert not list(tmp_path.glob("out*"))


def test_a_level_that_is_no_number(tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["restore", str(tmp_path), str(tmp_path / "out"), "--task", "car", "--level", "abc"])
    assert "argument --level: 'abc' is neither a number nor auto" in capsys.readouterr().err


def test_mosaics_of_one_and_three_channels_are_one_input():
    img = photo()
    mosaic = BayerMosaic()(img, np.random.default_rng(0))
    np.testing.assert_array_equal(as_mosaic(mosaic, "x"), mosaic)
    np.testing.assert_array_equal(as_mosaic(mosaic.sum(axis=2, keepdims=True, dtype=np.uint8), "x"), mosaic)
    with pytest.raises(UserError, match=r"^photo.png: not a GRBG mosaic, which has one colour a pixel"):
        as_mosaic(img, "photo.png")


def test_quality_of_a_jpeg_is_read_from_its_table():
    img = photo()
    for quality in range(1, 101):
        assert jpeg_quality(cv2.imencode(".jpg", img, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes()) == quality
    assert jpeg_quality(cv2.imencode(".png", img)[1].tobytes()) is None
    assert jpeg_quality(b"no image") is None


def test_file_of_another_level_is_told(tmp_path, option_file, capsys):
    path, _ = option_file
    (tmp_path / "in").mkdir()
    for quality in (10, 90):
        cv2.imwrite(str(tmp_path / f"in/q{quality}.jpg"), photo(), [cv2.IMWRITE_JPEG_QUALITY, quality])
    arguments = ["-opt", path, "--task", "car", "--level", "10", "--channels", "y"]
    assert main(["restore", str(tmp_path / "in"), str(tmp_path / "out"), *arguments]) == 0
    told = capsys.readouterr().out
    assert "q90.jpg: a JPEG of quality 90, the weights are for 10" in told
    assert "q10.jpg: a JPEG" not in told
