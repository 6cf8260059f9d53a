"""LMDBs that are cut short or have flipped bits: one line each, never the end of the process."""

from __future__ import annotations

import os
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import cv2
import lmdb
import numpy as np
import pytest
from conftest import REPOSITORY

from rnan_plugin.data.image_store import LmdbStore, close
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.data.lmdb_pages import check_pages
from rnan_plugin.data.lmdb_writer import pack_folder
from rnan_plugin.errors import UserError

FLIPS = 200

# Reads every image and looks at every key, as `verify` and training do; says how each copy ended.
READER = """
import sys
from pathlib import Path
from rnan_plugin.data.image_store import LmdbStore, close
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.errors import UserError
for root in sys.argv[1:]:
    ends = []
    for read in (check_lmdb, lambda root: [LmdbStore(root).read(name) for name in LmdbStore(root).names]):
        try:
            read(root)
            ends.append("read")
        except UserError as error:
            ends.append("told" if len(str(error).splitlines()) == 1 else "several lines")
        except Exception as error:
            ends.append(repr(error))
        close(root)
    print(Path(root).name, *ends, flush=True)
"""


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An LMDB with a branch page, leaf pages, values inside pages and beside them."""
    folder = tmp_path_factory.mktemp("sound")
    (folder / "in").mkdir()
    for seed in range(40):
        img = np.random.default_rng(seed).integers(0, 256, (130 if seed % 4 == 0 else 12, 12, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / f"in/{seed:02d}.png"), img)
    pack_folder(folder / "in", folder / "x.lmdb")
    return folder / "x.lmdb"


def copies(sound: Path, folder: Path, changes: list[Callable[[Path], None]]) -> list[str]:
    for number, change in enumerate(changes):
        copy = folder / f"{number:03d}.lmdb"
        shutil.copytree(sound, copy)
        change(copy)
    return sorted(str(path) for path in folder.iterdir())


def ends_of(roots: list[str]) -> list[list[str]]:
    """How reading ended, in a process of its own, which a signal may end."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-c", READER, *roots], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{done.returncode} after {done.stdout.splitlines()[-1:]}"
    return [line.split(maxsplit=1)[1].split() for line in done.stdout.splitlines()]


def flip(file: Path, position: int, bit: int) -> None:
    with file.open("rb+") as data:
        data.seek(position)
        (byte,) = data.read(1)
        data.seek(position)
        data.write(bytes([byte ^ 1 << bit]))


def pages(sound: Path) -> list[int]:
    """Numbers of the pages that are no value's own: heads, branches, leaves."""
    code = (sound / "data.mdb").read_bytes()
    return [
        page
        for page in range(len(code) // 4096)
        if code[page * 4096 : page * 4096 + 8] == page.to_bytes(8, "little")
        and code[page * 4096 + 10] in {1, 2, 8}
        and code[page * 4096 + 11] == 0
    ]


def test_sound_lmdb_has_what_can_break(sound: Path) -> None:
    kinds = {(sound / "data.mdb").read_bytes()[page * 4096 + 10] for page in pages(sound)}
    assert kinds == {1, 2, 8}
    check_pages(sound / "data.mdb")
    count, problems = check_lmdb(str(sound))
    assert count == 40
    assert problems == []
    close(sound)


@pytest.mark.parametrize("share", [0.0, 0.001, 0.01, 0.1, 0.3, 0.5, 0.9, 0.99])
def test_cut_short_is_one_line(sound: Path, tmp_path: Path, share: float) -> None:
    def cut(copy: Path) -> None:
        file = copy / "data.mdb"
        os.truncate(file, int(share * file.stat().st_size))

    (root,) = copies(sound, tmp_path, [cut])
    with pytest.raises(UserError, match=r"data\.mdb: damaged \(.*\); pack the LMDB again") as error:
        LmdbStore(root)
    assert "\n" not in str(error.value)
    if share > 0.01:
        assert f"cut short: {(Path(root) / 'data.mdb').stat().st_size} bytes of" in str(error.value)


def test_last_byte_counts(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "x.lmdb")
    file = tmp_path / "x.lmdb/data.mdb"
    os.truncate(file, file.stat().st_size - 1)
    with pytest.raises(UserError, match="cut short"):
        check_lmdb(str(tmp_path / "x.lmdb"))


def test_flipped_bits_never_end_the_process(sound: Path, tmp_path: Path) -> None:
    draws = random.Random(0)
    size = (sound / "data.mdb").stat().st_size
    structure = pages(sound)

    def change(copy: Path) -> None:
        kind = draws.randrange(4)
        if kind == 0:
            flip(copy / "meta_info.txt", draws.randrange((copy / "meta_info.txt").stat().st_size), draws.randrange(8))
        elif kind == 1:
            flip(copy / "data.mdb", draws.randrange(size), draws.randrange(8))
        else:  # where it hurts: heads of pages, tables and nodes
            place = 160 if kind == 2 else 4096
            flip(copy / "data.mdb", draws.choice(structure) * 4096 + draws.randrange(place), draws.randrange(8))

    ends = ends_of(copies(sound, tmp_path, [change] * FLIPS))
    assert len(ends) == FLIPS
    assert {end for pair in ends for end in pair} <= {"read", "told"}
    assert sum(pair[0] == "told" for pair in ends) > FLIPS // 10


@pytest.mark.parametrize(
    "change",
    [b"\xff", b"\xe2\x28", b"a.png (1,2) 1", b"a.png (99999999999999999999,2,3) 1\n", b""],
    ids=["byte", "two bytes", "shape", "huge", "empty"],
)
def test_damaged_index_is_one_line(sound: Path, tmp_path: Path, change: bytes) -> None:
    shutil.copytree(sound, tmp_path / "x.lmdb")
    (tmp_path / "x.lmdb/meta_info.txt").write_bytes(change)
    with pytest.raises(UserError, match=r"meta_info\.txt:.*pack the LMDB again") as error:
        LmdbStore(str(tmp_path / "x.lmdb"))
    assert "\n" not in str(error.value)


def test_index_with_windows_line_ends_is_read(sound: Path, tmp_path: Path) -> None:
    shutil.copytree(sound, tmp_path / "x.lmdb")
    index = tmp_path / "x.lmdb/meta_info.txt"
    index.write_bytes(index.read_bytes().replace(b"\n", b"\r\n"))
    assert check_lmdb(str(tmp_path / "x.lmdb"))[1] == []
    close(tmp_path / "x.lmdb")


@pytest.mark.parametrize("seed", range(12))
def test_sound_files_of_others_pass(seed: int, tmp_path: Path) -> None:
    """Keys put, put again and deleted, in many transactions: whatever shape that gives the file."""
    draws = random.Random(seed)
    with lmdb.open(str(tmp_path), map_size=2**26) as environment:
        for _ in range(draws.randint(1, 12)):
            with environment.begin(write=True) as transaction:
                for _ in range(draws.randint(1, 200)):
                    key = f"{draws.randrange(900):05d}".encode() * draws.choice([1, 3, 60])
                    if draws.random() < seed % 3 / 4:
                        transaction.delete(key)
                    else:
                        transaction.put(key, bytes(draws.choice([0, 10, 300, 1900, 3000, 20000])))
    check_pages(tmp_path / "data.mdb", for_writing=True)


# Packs images, of which the last can't be read at first, into each target, again until it is done; prints the errors.
PACKER = """
import sys
from pathlib import Path
import numpy as np
from rnan_plugin.data import lmdb_writer
from rnan_plugin.data.image_sources import ImageSource
from rnan_plugin.data.image_store import close
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import encode_png
lmdb_writer._TRANSACTION_BYTES = 8000  # many small ones
def image(number):
    def read():
        if number == 59 and sys.argv[1] == "begin":
            raise UserError("not yet")
        side = 60 if number % 4 == 0 else 12
        return encode_png(np.random.default_rng(number).integers(0, 256, (side, 12, 3), dtype=np.uint8))
    return ImageSource(f"{number:02d}.png", "same", read)
images = {f"{number:02d}" * 60: image(number) for number in range(60)}
for target in sys.argv[2:]:
    errors = []
    while len(errors) < 4 and not Path(target).exists():
        try:
            lmdb_writer.pack(images, target, lmdb_writer.Layout())
        except UserError as error:
            errors.append(str(error).replace(target, "").replace(" ", "_"))
            if sys.argv[1] == "begin":
                break
    done = Path(target).exists() and check_lmdb(target) == (60, [])
    close(target)
    print(target, done, *errors, flush=True)
"""


def packed(begin: bool, targets: list[Path]) -> list[list[str]]:
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", PACKER, "begin" if begin else "go on", *map(str, targets)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{done.returncode} after {done.stdout.splitlines()[-1:]}: {done.stderr[-500:]}"
    return [line.split()[1:] for line in done.stdout.splitlines()]


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of an unfinished LMDB."""
    folder = tmp_path_factory.mktemp("begun")
    assert packed(True, [folder / "x.lmdb"]) == [["False", "not_yet"]]
    check_pages(folder / ".x.lmdb.partial/data.mdb", for_writing=True)
    return folder / ".x.lmdb.partial"


def head_of(begun: Path) -> tuple[int, int, int]:
    """Where the newer head is, by its number, and the pages of the roots of its trees: of free pages, of values."""
    code = (begun / "data.mdb").read_bytes()
    head = max(0, 4096, key=lambda place: struct.unpack_from("=Q", code, place + 144))
    return head, *struct.unpack_from("=Q40xQ", code, head + 80)


def unfinished(begun: Path, target: Path, place: int, damage: Callable[[bytes], bytes], length: int) -> Path:
    """A copy of the folder for another target, with some of its bytes changed."""
    copy = target.with_name(f".{target.name}.partial")
    shutil.copytree(begun, copy)
    with (copy / "data.mdb").open("rb+") as file:
        file.seek(place)
        changed = damage(file.read(length))
        file.seek(place)
        file.write(changed)
    return target


def test_an_unfinished_one_whose_free_pages_are_damaged_is_begun_again(begun: Path, tmp_path: Path) -> None:
    """Reading goes by other pages; writing would end the process, or write over what is in use."""
    head, free, values = head_of(begun)
    record = free * 4096 + struct.unpack_from("=H", (begun / "data.mdb").read_bytes(), free * 4096 + 16)[0]
    targets = [
        unfinished(begun, tmp_path / "flags.lmdb", head + 44, lambda _: b"\xd7\0", 2),
        unfinished(begun, tmp_path / "page.lmdb", free * 4096, lambda code: bytes(len(code)), 4096),
        unfinished(begun, tmp_path / "record.lmdb", record + 24, lambda _: values.to_bytes(8, "little"), 8),
    ]
    for target in targets:
        file = target.with_name(f".{target.name}.partial") / "data.mdb"
        check_pages(file)
        with pytest.raises(UserError, match=r"damaged \((its head|page \d+|its free pages)\)"):
            check_pages(file, for_writing=True)
    assert packed(False, targets) == [["True"]] * len(targets)


def test_unfinished_ones_with_flipped_bits_are_finished_or_begun_again(begun: Path, tmp_path: Path) -> None:
    """Where it hurts: heads, branches, leaves, and the tree of free pages, which is used when writing goes on."""
    head, free, _ = head_of(begun)
    assert free in pages(begun)
    draws = random.Random(0)
    aims = [(page * 4096, 4096) for page in pages(begun)] + [(head + 40, 48), (free * 4096, 64)] * len(pages(begun))
    targets = []
    for number in range(FLIPS // 4):
        place, length = draws.choice(aims)
        flipped, bit = place + draws.randrange(length), draws.randrange(8)
        target = tmp_path / f"{number:03d}.lmdb"
        targets.append(unfinished(begun, target, flipped, lambda byte, bit=bit: bytes([byte[0] ^ 1 << bit]), 1))
    ends = packed(False, targets)
    assert [end[0] for end in ends] == ["True"] * len(targets)
    assert all(error.endswith("start_the_same_command_again") for _, *errors in ends for error in errors)
