"""Damage files of every kind that the package reads, and see that nothing but a `UserError` comes of it.

    python tools/fuzz.py --minutes 2 --seed 1

Each damaged file is read in this process. What ends otherwise is kept in tests/corpus, as TARGET-DIGEST, which the
tests read again; the exit status is 1.
"""

from __future__ import annotations

import argparse
import hashlib
import io
import random
import sys
import tempfile
import time
import traceback
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import cv2
import numpy as np
import torch

from rnan_plugin import checkpoints
from rnan_plugin.data.dataset_options import parse_dataset
from rnan_plugin.data.image_sources import collect_images
from rnan_plugin.data.image_store import LmdbStore, close
from rnan_plugin.data.lmdb_check import check_lmdb
from rnan_plugin.data.lmdb_writer import pack_folder
from rnan_plugin.errors import UserError
from rnan_plugin.images.codec import orientation_of
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.images.estimate import jpeg_quality
from rnan_plugin.options.schema import read_option_file

REPOSITORY = Path(__file__).resolve().parents[1]
CORPUS = REPOSITORY / "tests/corpus"
OPTION_FILES = ["quickstart_RNAN_CAR_q10.yml", "train_RNAN_SR_x2.yml", "test_RNAN_ColorDN_s50.yml"]
INDEX_SIZE = 4  # bytes in front of an LMDB's index, which is kept in one file with its data: how long it is


def picture(seed: int, side: int = 24) -> np.ndarray:
    """(side, side + 3, 3), 0..255."""
    return np.random.default_rng(seed).integers(0, 256, (side, side + 3, 3), dtype=np.uint8)


@cache
def images() -> list[bytes]:
    """Sound image files, one of each kind."""
    kinds = (".png", ".jpg", ".bmp", ".tif", ".webp", ".ppm")
    return [cv2.imencode(kind, picture(seed))[1].tobytes() for seed, kind in enumerate(kinds)]


@cache
def zips() -> list[bytes]:
    """Sound zip files of images, one for each compression."""
    made = []
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        buffer = io.BytesIO()
        with zipfile.ZipFile(buffer, "w", method) as archive:
            for number, code in enumerate(images()[:3]):
                archive.writestr(f"set/{number}.png", code)
        made.append(buffer.getvalue())
    return made


@cache
def option_files() -> list[bytes]:
    """Shipped option files."""
    return [(REPOSITORY / "options" / name).read_bytes() for name in OPTION_FILES]


@cache
def states() -> list[bytes]:
    """A checkpoint as BasicSR writes it, and as torch did before 1.6."""
    made = []
    for zipped in (True, False):
        buffer = io.BytesIO()
        content = {"params": {"conv.weight": torch.arange(24.0).reshape(2, 3, 2, 2), "conv.bias": torch.zeros(2)}}
        torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
        made.append(buffer.getvalue())
    return made


@cache
def lmdbs() -> list[bytes]:
    """An LMDB as one piece: the length of its index, the index, its data."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "in").mkdir()
        for seed in range(12):
            cv2.imwrite(f"{folder}/in/{seed}.png", picture(seed, 8 + 4 * seed))
        pack_folder(f"{folder}/in", f"{folder}/x.lmdb")
        index, data = (Path(folder, "x.lmdb", name).read_bytes() for name in ("meta_info.txt", "data.mdb"))
    return [len(index).to_bytes(INDEX_SIZE, "little") + index + data]


def read_image(code: bytes, _: Path) -> None:
    """As restoring and packing do."""
    orientation_of(code)
    jpeg_quality(code)
    decode_image(code, "image")


def read_zip(code: bytes, folder: Path) -> None:
    """As packing does."""
    (folder / "x.zip").write_bytes(code)
    for image in collect_images([folder / "x.zip"]).values():
        image.read()


def read_options(code: bytes, folder: Path) -> None:
    """As training does, as far as the data sets."""
    (folder / "x.yml").write_bytes(code)
    opt = read_option_file(str(folder / "x.yml"))
    for name, dataset in opt["datasets"].items():
        filled_in = {"phase": str(name).partition("_")[0], "scale": opt.get("scale", 1)}  # as the launcher does
        parse_dataset({**dataset, **filled_in}, f"datasets.{name}")


def read_state(code: bytes, folder: Path) -> None:
    """As training and restoring do."""
    (folder / "x.pth").write_bytes(code)
    checkpoints.weights_in(checkpoints.read(folder / "x.pth"), "x.pth")


def read_lmdb(code: bytes, folder: Path) -> None:
    """As `verify` and training do."""
    root = folder / "x.lmdb"
    root.mkdir(exist_ok=True)
    split = INDEX_SIZE + int.from_bytes(code[:INDEX_SIZE], "little")
    (root / "meta_info.txt").write_bytes(code[INDEX_SIZE:split])
    (root / "data.mdb").write_bytes(code[split:])
    try:
        check_lmdb(str(root))
        store = LmdbStore(str(root))
        for name in store.names:
            store.read(name, (0, 0, 2, 2))
    finally:
        close(root)


Reader = Callable[[bytes, Path], None]
TARGETS: dict[str, tuple[Callable[[], list[bytes]], Reader]] = {
    "image": (images, read_image),
    "zip": (zips, read_zip),
    "options": (option_files, read_options),
    "state": (states, read_state),
    "lmdb": (lmdbs, read_lmdb),
}


def damaged(sound: bytes, draws: random.Random) -> bytes:
    """A file with a few bytes flipped, set, cut out or doubled."""
    code = bytearray(sound)
    for _ in range(draws.choice([1, 1, 2, 5])):
        place, length = draws.randrange(len(code) or 1), draws.choice([1, 1, 2, 4, 20])
        piece = code[place : place + length]
        change = draws.randrange(6)
        if change == 0:
            del code[place:]
        elif change == 1:
            del code[place : place + length]
        elif change == 2:
            code[place:place] = piece * draws.choice([1, 3])
        elif change == 3:
            code[place : place + length] = draws.choice([b"\0", b"\xff", b"\x80"]) * len(piece)
        else:
            code[place : place + 1] = bytes(byte ^ 1 << draws.randrange(8) for byte in piece[:1])
    return bytes(code)


def outcome(target: str, code: bytes, folder: Path) -> str:
    """How reading ends: "read", "told", or a traceback."""
    try:
        TARGETS[target][1](code, folder)
    except UserError:
        return "told"
    except Exception:
        return traceback.format_exc()
    return "read"


def cases(seed: int, targets: list[str]) -> Iterator[tuple[str, bytes]]:
    """Endless damaged files, the targets in turn."""
    draws = random.Random(seed)
    while True:
        for target in targets:
            yield target, damaged(draws.choice(TARGETS[target][0]()), draws)


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (default: 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the damage (default: 0)")
    parser.add_argument("--target", choices=TARGETS, action="append", help="one kind alone; may be given several times")
    args = parser.parse_args()
    counts: Counter[tuple[str, str]] = Counter()
    end = time.monotonic() + 60 * args.minutes
    with tempfile.TemporaryDirectory() as folder:
        for target, code in cases(args.seed, args.target or list(TARGETS)):
            if time.monotonic() > end:
                break
            result = outcome(target, code, Path(folder))
            counts[target, result if result in {"read", "told"} else "NOT TOLD"] += 1
            if result not in {"read", "told"}:
                file = CORPUS / f"{target}-{hashlib.sha256(code).hexdigest()[:12]}"
                file.write_bytes(code)
                print(f"{file.relative_to(REPOSITORY)}\n{result}", flush=True)
    for (target, result), count in sorted(counts.items()):
        print(f"{target:8} {result:9} {count}")
    return int(any(result == "NOT TOLD" for _, result in counts))


if __name__ == "__main__":
    sys.exit(main())
