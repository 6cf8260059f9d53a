"""Preparing image sets from what users have of them: folders, archives, several sources, wrong targets."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from packing import CODECS, ENVIRONMENT, error_of, write

from rnan_plugin import device
from rnan_plugin.__main__ import main
from rnan_plugin.data import download as download_module
from rnan_plugin.data import pack_work
from rnan_plugin.data import prepare as prepare_module
from rnan_plugin.data.image_store import LmdbStore
from rnan_plugin.data.lmdb_writer import SKIPPED
from rnan_plugin.paper.image_sets import TRAINING_SETS, NamedSet


@pytest.mark.parametrize("codec", CODECS)
def test_folder_to_verified_lmdb(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = write(tmp_path / "in", ["b.1", "Größe/写真", "a"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--codec", codec]) == 0
    out = capsys.readouterr().out
    assert "3 images in" in out
    assert f"dataroot_gt: {tmp_path / 'x.lmdb'}\n    io_backend:\n      type: lmdb" in out
    store = LmdbStore(str(tmp_path / "x.lmdb"))
    assert list(store.names) == sorted(images)
    for name, img in images.items():
        np.testing.assert_array_equal(store.read(name), img)
    assert (tmp_path / "x.lmdb/meta_info.txt").read_text().splitlines()[0] == "Größe/写真.png (24,27,3) 1"
    assert main(["verify", str(tmp_path / "x.lmdb")]) == 0
    assert "3 images, no problems" in capsys.readouterr().out


def test_official_zip(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    names = [f"{number:04d}" for number in range(801, 901)]
    images = write(tmp_path / "DIV2K_valid_HR", names)
    archive = tmp_path / "DIV2K_valid_HR.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for name in names:
            file.write(tmp_path / f"DIV2K_valid_HR/{name}.png", f"DIV2K_valid_HR/{name}.png")
        file.writestr("__MACOSX/DIV2K_valid_HR/._0801.png", b"junk of another system")
        file.writestr("DIV2K_valid_HR/README.txt", b"no image")
    arguments = ["prepare", archive, tmp_path / "valid.lmdb", "--set", "div2k-valid", "--crop-size", 16, "--step", 8]
    assert "MD5 is" in error_of(capsys, *arguments)  # not the authors' file
    official = TRAINING_SETS["div2k-valid"]
    mine = NamedSet(100, None, official.numbers, official.url, download_module.md5_of(archive))
    monkeypatch.setitem(prepare_module.TRAINING_SETS, "div2k-valid", mine)
    assert main([str(argument) for argument in arguments]) == 0
    store = LmdbStore(str(tmp_path / "valid.lmdb"))
    assert len(store.names) == 100 * 2 * 3
    np.testing.assert_array_equal(store.read("0900_s006"), images["0900"][8:24, 11:27])


def test_several_sources_are_one_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "train", ["1", "2"])
    write(tmp_path / "test", ["3"])
    assert main(["prepare", str(tmp_path / "train"), str(tmp_path / "test"), str(tmp_path / "x.lmdb")]) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["1", "2", "3"]
    write(tmp_path / "test", ["2"])
    assert "two images of one name" in error_of(
        capsys, "prepare", tmp_path / "train", tmp_path / "test", tmp_path / "y.lmdb"
    )


def test_held_out_images_are_not_trained_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", list("abcdefg"))
    arguments = ["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--hold-out", "3"]
    assert main(arguments) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == list("acdfg")
    assert list(LmdbStore(str(tmp_path / "x_held_out.lmdb")).names) == list("be")
    shutil.rmtree(tmp_path / "x.lmdb")  # as if it had been killed between the two
    assert main(arguments) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == list("acdfg")
    shutil.rmtree(tmp_path / "x.lmdb")
    write(tmp_path / "other", list("uvw"))
    others = ["prepare", str(tmp_path / "other"), *arguments[2:]]
    assert "x_held_out.lmdb: exists already, with other images" in error_of(capsys, *others)
    arguments[2] = str(tmp_path / "y.lmdb")
    assert "--hold-out 15: too few images" in error_of(capsys, *arguments[:-1], 15)
    assert "--hold-out 1:" in error_of(capsys, *arguments[:-1], 1)
    assert not (tmp_path / "y.lmdb").exists()


def test_incomplete_set_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", [f"{number:04d}" for number in range(2, 802)], side=2)
    line = error_of(capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb", "--set", "div2k")
    assert "not the set 'div2k': 1 missing: 0001; 1 not of the set: 0801" in line
    assert "801 images instead of 400" not in line
    (tmp_path / "in/0801.png").unlink()
    assert "799 images instead of 400" in error_of(
        capsys, "prepare", tmp_path / "in", tmp_path / "x.lmdb", "--set", "bsd400"
    )
    assert not (tmp_path / "x.lmdb").exists()


def test_damaged_zip_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK no zip")
    write(tmp_path / "in", ["a"])
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.write(tmp_path / "in/a.png", "a.png")
    code = bytearray((tmp_path / "b.zip").read_bytes())
    code[200] ^= 1
    (tmp_path / "b.zip").write_bytes(code)
    assert "a.zip: not a readable zip file" in error_of(capsys, "prepare", tmp_path / "a.zip", tmp_path / "x.lmdb")
    assert "b.zip/a.png: can't be read" in error_of(capsys, "prepare", tmp_path / "b.zip", tmp_path / "x.lmdb")
    assert "c.zip: no such file" in error_of(capsys, "prepare", tmp_path / "c.zip", tmp_path / "x.lmdb")
    assert "name what to pack" in error_of(capsys, "prepare", tmp_path / "x.lmdb")


def test_packing_without_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows has neither fcntl nor resource."""
    code = "import sys; sys.modules['fcntl'] = None; from rnan_plugin.data import pack_work; print(pack_work.fcntl)"
    done = subprocess.run([sys.executable, "-c", code], env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout == "None\n"
    monkeypatch.setattr(pack_work, "fcntl", None)
    write(tmp_path / "in", ["a"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    monkeypatch.setitem(sys.modules, "resource", None)
    assert device.process_peak_mib() == 0


def test_wrong_target_is_told_before_anything_is_fetched_or_packed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "in", list("abcd"))
    monkeypatch.setattr(prepare_module, "download", lambda *_: pytest.fail("downloaded"))
    arguments = ["prepare", tmp_path / "in", "http://127.0.0.1:1/x.zip"]
    assert "foo: the name must end in .lmdb" in error_of(capsys, *arguments, tmp_path / "foo", "--hold-out", 2)
    missing = error_of(capsys, *arguments, tmp_path / "no folder", tmp_path / "x.lmdb")
    assert "no folder: no such file or folder; check the path" in missing
    needless = error_of(capsys, *arguments, tmp_path / "x.lmdb", "--step", 20)
    assert "--step: is of sub-images; add --crop-size, or leave it out" in needless
    (tmp_path / "y.lmdb").symlink_to("nowhere")
    assert "y.lmdb: exists already" in error_of(capsys, *arguments, tmp_path / "y.lmdb")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "y.lmdb"]


def test_dots_are_noted_where_basicsr_reads_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a.v2"])
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]) == 0
    assert "note: names hold dots" in capsys.readouterr().out
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "y.lmdb"), "--codec", "raw"]) == 0
    assert "note:" not in capsys.readouterr().out


def test_bad_images_can_be_left_out_and_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a", "c"])
    (tmp_path / "in/b.png").write_bytes(b"no image")
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--skip-bad"]) == 0
    assert "1 images left out" in capsys.readouterr().out
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["a", "c"]
    assert (tmp_path / "x.lmdb" / SKIPPED).read_text().startswith(f"{tmp_path / 'in/b.png'}: unreadable")
