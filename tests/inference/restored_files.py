"""Restoring a folder by a network that changes nothing, and reading the results by other libraries than wrote them."""

from __future__ import annotations

import io
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
import torch
import yaml
from kinds_of_files import TINY, Array
from PIL import Image, ImageOps

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN


def option_file(folder: Path, *, is_identity: bool = False) -> tuple[str, RNAN]:
    torch.manual_seed(0)
    net = RNAN(3, 3, **TINY)
    if is_identity:
        torch.nn.init.zeros_(net.tail[-1].weight)
        torch.nn.init.zeros_(net.tail[-1].bias)
    return describe(folder, net, "rgb", TINY), net.eval()


def describe(folder: Path, net: RNAN, channels: str, size: dict[str, int]) -> str:
    """Write an option file of a network of some size, its weights beside it."""
    torch.save({"params": net.state_dict()}, folder / "net.pth")
    num_channel = net.head.in_channels
    opt = {
        "name": "x",
        "model_type": "RestorationModel",
        "num_gpu": 0,
        "datasets": {"val": {"channels": channels}},
        "network_g": {"type": "RNAN", "num_in_ch": num_channel, "num_out_ch": num_channel, **size},
        "path": {"pretrain_network_g": str(folder / "net.pth")},
    }
    (folder / "x.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
    return str(folder / "x.yml")


@dataclass(frozen=True)
class Restored:
    """A folder of files, what `restore` made of it, what it said, and why some files could not be made."""

    folder: Path
    code: int
    out: str
    err: str
    unmade: dict[str, str]

    def pair(self, name: str, ending: str | None = ".png") -> tuple[Path, Path]:
        """A file and its result, whose name may hold the file's whole."""
        if name in self.unmade:
            pytest.skip(self.unmade[name])
        source = self.folder / "in" / name
        stems = [name, Path(name).stem]
        endings = [ending] if ending else [source.suffix, ".png"]
        found = [path for stem in stems for end in endings if (path := self.folder / f"out/{stem}{end}").is_file()]
        return source, found[0]


def restored(folder: Path, network: str, unmade: dict[str, str], *arguments: str) -> Restored:
    out, err = io.StringIO(), io.StringIO()
    with redirect_stdout(out), redirect_stderr(err):
        code = main(["restore", str(folder / "in"), str(folder / "out"), "-opt", network, "--jobs", "1", *arguments])
    return Restored(folder, code, out.getvalue(), err.getvalue(), unmade)


def of_16_bits(img: Array) -> Array:
    """(H, W, C) of any kind to (H, W, 4) of 16 bits."""
    img = img if img.ndim == 3 else img[..., None]
    img = img.astype(np.int64) * (1 if img.dtype == np.uint16 else 257)
    alpha = img[..., -1:] if img.shape[2] in {2, 4} else np.full_like(img[..., :1], 65535)
    colour = img[..., :3] if img.shape[2] >= 3 else img[..., :1].repeat(3, axis=2)
    return np.concatenate([colour, alpha], axis=2)


def read_by_pillow(path: Path) -> Array:
    """A file of 8 bits as Pillow shows it: upright, in full colour."""
    with Image.open(path) as file:
        shown = ImageOps.exif_transpose(file)
        if file.mode in {"P", "PA"} or "transparency" in file.info:
            shown = shown.convert("RGBA")
        return np.asarray(shown)


def read_result(path: Path) -> Array:
    """A result by another library than the one that wrote it: OpenCV for PNG, tifffile for TIFF, else Pillow."""
    if path.suffix == ".png":
        img = cv2.imdecode(np.frombuffer(path.read_bytes(), np.uint8), cv2.IMREAD_UNCHANGED)
        return (
            img if img.ndim == 2 else cv2.cvtColor(img, cv2.COLOR_BGRA2RGBA if img.shape[2] == 4 else cv2.COLOR_BGR2RGB)
        )
    return tifffile.imread(path) if path.suffix in {".tif", ".tiff"} else read_by_pillow(path)


def difference(one: Array, other: Array) -> int:
    """The largest, of 65535, in alpha and in what alpha does not hide."""
    assert one.shape == other.shape
    shown = (other[..., 3:] > 0) | [False, False, False, True]
    return int(np.abs((one - other) * shown).max())
