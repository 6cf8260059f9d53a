"""Damage in a prepared set, found by `rnan verify`; sets that lack images, told by `rnan sets`."""

from __future__ import annotations

import os
import zlib
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from packing import CODECS, write

from rnan_plugin.__main__ import main
from rnan_plugin.data import image_store


def damage(root: Path, key: bytes, change: Callable[[bytearray], None]) -> None:
    for _, opened in image_store._environments.values():  # lmdb opens nothing twice in one process
        opened.close()
    image_store._environments.clear()
    with lmdb.open(str(root)) as environment, environment.begin(write=True) as transaction:
        value = bytearray(transaction.get(key))
        change(value)
        transaction.put(key, bytes(value))


@pytest.mark.parametrize("codec", CODECS)
def test_verify_finds_damage(codec: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a", "b", "c"])
    root = tmp_path / "x.lmdb"
    main(["prepare", str(tmp_path / "in"), str(root), "--codec", codec])

    def flip(value: bytearray) -> None:
        value[len(value) // 2] ^= 1

    def shorten(value: bytearray) -> None:
        del value[len(value) // 2 :]

    damage(root, b"a", flip)
    damage(root, b"b", shorten)
    index = (root / "meta_info.txt").read_text().replace("c.png (24,27,3)", "c.png (24,26,3)")
    (root / "meta_info.txt").write_text(f"{index}d.png (24,27,3) 1\n")
    capsys.readouterr()
    assert main(["verify", str(root)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 5
    assert lines[0] == "d: named in meta_info.txt, not in the LMDB"
    assert lines[1].startswith("a: ")  # a PNG decoder may notice before the checksum does
    assert lines[2].startswith("b: ")
    assert lines[3] == "c: 24×27 pixels, meta_info.txt says 24×26"
    assert lines[4] == f"{root}: 4 images, 4 problems"


def test_what_to_do_where_there_is_no_lmdb(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((8, 8, 3), np.uint8))
    assert main(["prepare", str(tmp_path), str(tmp_path / "x.lmdb")]) == 0
    cases = {
        "x": f"no such LMDB; did you mean {tmp_path / 'x.lmdb'}?",
        "y": f"no such LMDB; pack it with: rnan prepare FOLDER {tmp_path / 'y.lmdb'}",
        "y.lmdb": f"no such LMDB; pack it with: rnan prepare FOLDER {tmp_path / 'y.lmdb'}",
        "": f"data.mdb is missing; an LMDB of its images is made with: rnan prepare {tmp_path} {tmp_path}.lmdb",
    }
    for name, told in cases.items():
        capsys.readouterr()
        assert main(["verify", str(tmp_path / name)]) == 2
        assert told in capsys.readouterr().err
    for command in (["restore"], ["degrade", "--task", "car", "--level", "10"]):
        assert main([*command, str(tmp_path / "x.lmdb"), str(tmp_path / "out")]) == 2
        assert "x.lmdb: an LMDB, which training and scoring read; name a folder of images" in capsys.readouterr().err


def test_checksum_of_a_png_that_decodes_is_compared(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "in", ["a"])
    root = tmp_path / "x.lmdb"
    main(["prepare", str(tmp_path / "in"), str(root)])

    def append_bad_chunk(value: bytearray) -> None:
        end = value.rindex(b"IEND") - 4
        value[end:end] = b"\0\0\0\x01tEXtx" + (zlib.crc32(b"tEXtx") ^ 1).to_bytes(4, "big")

    damage(root, b"a", append_bad_chunk)
    capsys.readouterr()
    assert main(["verify", str(root)]) == 1
    assert capsys.readouterr().out.splitlines()[0].startswith("a: ")


def test_validation_sets_say_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in "abcde":
        (tmp_path / "Classic5").mkdir(exist_ok=True)
        cv2.imwrite(str(tmp_path / f"Classic5/{name}.png"), np.zeros((512, 512, 3), np.uint8))
    (tmp_path / "Kodak24").mkdir()
    for number in range(24):
        size = (768, 512) if number % 2 else (500, 768)
        cv2.imwrite(str(tmp_path / f"Kodak24/{number:02d}.png"), np.zeros((*size, 3), np.uint8))
    write(tmp_path / "Set5", ["baby", "bird"])
    assert main(["sets", str(tmp_path)]) == 1
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["Classic5"] == "complete"
    assert lines["Kodak24"] == "12 of another size than 768×512: 00, 02, 04, 06, 08, …"
    assert lines["Set5"] == "2 images instead of 5"
    assert lines["Urban100"] == "missing"
    assert len(lines) == 10


@pytest.mark.skipif("RNAN_REFERENCE_DIR" not in os.environ, reason="RNAN_REFERENCE_DIR is not set")
def test_validation_sets_at_hand_are_complete(capsys: pytest.CaptureFixture[str]) -> None:
    main(["sets", str(Path(os.environ["RNAN_REFERENCE_DIR"], "data/val"))])
    lines = dict(line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert {name for name, state in lines.items() if state == "complete"} == {"Set5", "Classic5", "Kodak24"}
