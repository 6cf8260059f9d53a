"""Folders and zip files of every kind of damage and oddity: one line that names the image, which may be left out."""

from __future__ import annotations

import io
import os
import random
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from conftest import REPOSITORY

from rnan_plugin.__main__ import main
from rnan_plugin.data import image_sources
from rnan_plugin.data.image_files import list_images
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.image_store import LmdbStore, close
from rnan_plugin.data.lmdb_writer import SKIPPED
from rnan_plugin.errors import UserError

PNG = cv2.imencode(".png", np.random.default_rng(0).integers(0, 256, (20, 20, 3), dtype=np.uint8))[1].tobytes()


def zip_of(file: Path, *names: str, method: int = zipfile.ZIP_DEFLATED, content: bytes = PNG) -> bytearray:
    with zipfile.ZipFile(file, "w", method) as archive:
        for name in names:
            archive.writestr(name, content)
    return bytearray(file.read_bytes())


def central(code: bytearray) -> int:
    """Where the entry of the first member begins in the list at a zip file's end."""
    return code.index(b"PK\x01\x02")


def data_of(code: bytearray) -> int:
    """Where the first member's data begin."""
    return 30 + sum(struct.unpack_from("<HH", code, 26))


# By name: what becomes of a zip file whose first member is `bad.png`.


def damaged_deflate(code: bytearray) -> None:
    code[data_of(code)] = 0x07  # a kind of block that there is not


def flipped_content(code: bytearray) -> None:
    code[data_of(code) + len(PNG) // 2] ^= 1


def encrypted(code: bytearray) -> None:
    code[6] |= 1
    code[central(code) + 8] |= 1


def deflate64(code: bytearray) -> None:
    code[8] = code[central(code) + 10] = 9


def unknown_method(code: bytearray) -> None:
    code[8] = code[central(code) + 10] = 99


def claims_to_be_lzma(code: bytearray) -> None:
    code[8] = code[central(code) + 10] = 14


def claims_to_be_bzip2(code: bytearray) -> None:
    code[8] = code[central(code) + 10] = 12


def states_less(code: bytearray) -> None:
    struct.pack_into("<I", code, central(code) + 24, 100)


def states_more(code: bytearray) -> None:
    struct.pack_into("<I", code, central(code) + 24, 10 * len(PNG))


def states_a_huge_size(code: bytearray) -> None:
    struct.pack_into("<I", code, central(code) + 24, 2**32 - 2)


def wrong_position(code: bytearray) -> None:
    struct.pack_into("<I", code, central(code) + 42, 2**31)


def other_name_in_its_head(code: bytearray) -> None:
    code[30:33] = b"sad"


def no_head(code: bytearray) -> None:
    code[0:4] = b"\0\0\0\0"


DAMAGE = [
    damaged_deflate,
    flipped_content,
    encrypted,
    deflate64,
    unknown_method,
    claims_to_be_lzma,
    claims_to_be_bzip2,
    states_less,
    states_more,
    states_a_huge_size,
    wrong_position,
    other_name_in_its_head,
    no_head,
]


@pytest.mark.parametrize("damage", DAMAGE)
def test_bad_member_is_one_line_and_can_be_left_out(
    damage: object, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, target = tmp_path / "set.zip", tmp_path / "x.lmdb"
    code = zip_of(file, "bad.png", "good.png")
    damage(code)  # type: ignore[operator]
    file.write_bytes(code)
    assert main(["prepare", str(file), str(target)]) == 2
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error")]
    assert line.startswith(f"error: {file}/bad.png: ")
    assert not target.exists()
    assert main(["prepare", str(file), str(target), "--skip-bad"]) == 0
    assert list(LmdbStore(str(target)).names) == ["good"]
    (listed,) = (target / SKIPPED).read_text(encoding="utf-8").splitlines()
    assert listed == line.removeprefix("error: ")


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_every_compression_that_python_knows_is_read(method: int, tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", "a.png", method=method)
    assert collect_images([tmp_path / "x.zip"])["a"].read() == PNG


@pytest.mark.parametrize(
    ("members", "names"),
    [
        (["./x.png"], ["x"]),
        (["a//x.png"], ["x"]),
        (["/x.png", "y.png"], ["x", "y"]),
        (["//a/x.png", "a/y.png"], ["x", "y"]),
        (["/set/x.png", "other/y.png"], ["other/y", "set/x"]),
        (["x.png/", "y.png"], ["y"]),
        (["x.png/y.png", "z.png"], ["x.png/y", "z"]),
        (["./a/./x.png", "a/b//y.png"], ["b/y", "x"]),
    ],
)
def test_odd_member_names_are_read(members: list[str], names: list[str], tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", *members)
    images = collect_images([tmp_path / "x.zip"])
    assert list(images) == names
    assert {image.read() for image in images.values()} == {PNG}


def test_one_name_written_in_two_ways_is_refused(tmp_path: Path) -> None:
    zip_of(tmp_path / "x.zip", "a/x.png", "a//x.png")
    with pytest.raises(UserError, match="two images of one name"):
        collect_images([tmp_path / "x.zip"])


@pytest.mark.parametrize("break_", ["\n", "\r", "\x0b", "\x1e", "\x85", "\u2028", "\u2029", "\t", "\x7f"])
def test_names_with_line_breaks_are_refused_one_line_each(
    break_: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    zip_of(tmp_path / "x.zip", f"a{break_}.png", f"set/{break_}b.png", "\u3000 c\xa0.png")
    (tmp_path / "in").mkdir()
    (tmp_path / f"in/d{break_}d.png").write_bytes(PNG)
    arguments = ["prepare", *(str(tmp_path / name) for name in ("x.zip", "in", "x.lmdb"))]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 3
    assert all("a line break, control character or undecodable byte in its name; rename it" in line for line in lines)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "x.zip"]
    assert main([*arguments, "--skip-bad"]) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["\u3000 c\xa0"]
    assert len((tmp_path / "x.lmdb" / SKIPPED).read_text(encoding="utf-8").splitlines()) == 3


def test_names_that_lead_out_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    zip_of(tmp_path / "x.zip", "../a.png", "b/../../c.png", "d.png")
    arguments = ["prepare", str(tmp_path / "x.zip"), str(tmp_path / "x.lmdb")]
    assert main(arguments) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert all("its name leads out of its folder; rename it" in line for line in lines)
    assert main([*arguments, "--skip-bad"]) == 0
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["d"]


def test_undecodable_names_never_damage_the_lmdb(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/in/\xff.png")).write_bytes(PNG)
    (tmp_path / "in/a.png").write_bytes(PNG)
    assert main(["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb"), "--skip-bad"]) == 0
    assert main(["verify", str(tmp_path / "x.lmdb")]) == 0
    assert "a" in LmdbStore(str(tmp_path / "x.lmdb")).names


def test_member_that_grows_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a member states is believed, and never read past; what is stated beyond the limit is not read at all."""
    monkeypatch.setattr(image_sources, "MEMBER_LIMIT", 1000)
    zip_of(tmp_path / "x.zip", "fits.png", content=bytes(1000))
    assert collect_images([tmp_path / "x.zip"])["fits"].read() == bytes(1000)
    zip_of(tmp_path / "x.zip", "large.png", content=bytes(1001))
    with pytest.raises(UserError, match=r"x\.zip/large\.png: too large for an image \(1001 bytes, the most are 1000\)"):
        collect_images([tmp_path / "x.zip"])["large"].read()


BOMB = """
import resource, sys
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.errors import UserError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for image in collect_images(sys.argv[1:]).values():
    try:
        image.read()
    except UserError as error:
        print(error)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_member_that_lies_about_its_size_takes_no_memory(method: int, tmp_path: Path) -> None:
    file = tmp_path / "x.zip"
    with zipfile.ZipFile(file, "w", method, compresslevel=1) as archive, archive.open("a.png", "w") as member:
        for _ in range(40):
            member.write(bytes(2**24))  # 640 MiB, beyond the limit
    code = bytearray(file.read_bytes())
    for stated in (code[central(code) + 24 : central(code) + 28], b"\0\x10\0\0"):
        code[central(code) + 24 : central(code) + 28] = stated
        file.write_bytes(code)
        done = subprocess.run(
            [sys.executable, "-c", BOMB, file],
            env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
            capture_output=True,
            text=True,
            check=True,
        )
        line, kib = done.stdout.splitlines()
        assert "a.png: too large" in line or "a.png: can't be read (Bad CRC-32" in line
        assert int(kib) < 2**17


def test_random_damage_is_told(tmp_path: Path) -> None:
    """Flips and cuts anywhere: images, or one line each."""
    draws = random.Random(0)
    sound = bytes(zip_of(tmp_path / "x.zip", "set/a.png", "set/b.png", "c.jpg"))
    told = []
    for _ in range(400):
        code = bytearray(sound)
        for _ in range(draws.randint(1, 3)):
            code[draws.choice([draws.randrange(len(code)), draws.randrange(-250, 0)])] ^= 1 << draws.randrange(8)
        (tmp_path / "x.zip").write_bytes(code[: draws.choice([None, draws.randrange(len(code))])])
        try:
            for image in collect_images([tmp_path / "x.zip"]).values():
                image.read()
        except UserError as error:
            told.append(str(error))
    assert len(told) > 200
    assert all(len(line.splitlines()) == 1 for line in told)


# Folders


def test_broken_and_circular_links_are_told_and_can_be_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/good.png").write_bytes(PNG)
    (tmp_path / "in/nowhere.png").symlink_to("missing.png")
    (tmp_path / "in/self.png").symlink_to("self.png")
    (tmp_path / "in/loop").symlink_to(".")
    arguments = ["prepare", str(tmp_path / "in"), str(tmp_path / "x.lmdb")]
    assert main(arguments) == 2
    assert "in/nowhere.png: can't be read (No such file" in capsys.readouterr().err
    assert main([*arguments, "--skip-bad"]) == 0
    assert "2 images left out" in capsys.readouterr().out
    assert list(LmdbStore(str(tmp_path / "x.lmdb")).names) == ["good"]
    close(tmp_path / "x.lmdb")


def test_unreadable_subfolder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("a.png", "locked/b.png"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(PNG)
    iterdir = Path.iterdir

    def refuse(path: Path) -> object:
        if path.name == "locked":  # permissions do not stop a superuser, who may be running this
            raise PermissionError(13, "Permission denied", str(path))
        return iterdir(path)

    monkeypatch.setattr(Path, "iterdir", refuse)
    with pytest.raises(UserError, match=r"locked: can't be read \(Permission denied\)"):
        list_images(tmp_path)


def test_what_is_no_zip_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "folder.zip").mkdir()
    assert main(["prepare", str(tmp_path / "folder.zip"), str(tmp_path / "x.lmdb")]) == 2
    assert "folder.zip: is a folder, not a file" in capsys.readouterr().err
    buffer = io.BytesIO()
    zipfile.ZipFile(buffer, "w").close()
    (tmp_path / "empty.zip").write_bytes(buffer.getvalue())
    assert main(["prepare", str(tmp_path / "empty.zip"), str(tmp_path / "x.lmdb")]) == 2
    assert "empty.zip: no images in it" in capsys.readouterr().err
