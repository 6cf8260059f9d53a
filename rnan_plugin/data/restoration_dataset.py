"""The data set of all five tasks: ground truth from a folder or LMDB, degraded on the fly."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rnan_plugin.data.color import convert_channels
from rnan_plugin.data.degradations import Degraded, Image, degrade, degrade_crop
from rnan_plugin.data.image_store import ImageStore, open_store
from rnan_plugin.errors import UserError
from rnan_plugin.options import DatasetOptions, missing_data_remedy, option_file, parse_dataset


class Sample(TypedDict):
    """One item, as the toolbox's models expect it."""

    lq: Tensor  # (C, h, w) float32, RGB or one channel, 0..1 (unquantised noise may leave it)
    gt: Tensor  # (C, h*scale, w*scale) float32, 0..1
    lq_path: str
    gt_path: str


class RestorationDataset(Dataset[Sample]):
    """Pairs of degraded and ground-truth images; random patches for training, whole images otherwise.

    Randomness: a training sample draws a fresh stream from torch's generator, which the data loader seeds anew for
    every epoch and worker (NumPy's and Python's it does not). Validation noise depends on `noise_seed` and the
    image's content alone.

    Args:
        opt: One entry of `datasets` in an option file; see `rnan_plugin.options.DatasetOptions`.

    Raises:
        UserError: A wrong key or value, or missing images; names file, key and remedy.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt  # the toolbox reads the name from here
        where = f"{option_file() or 'option file'}, datasets.{opt.get('phase', 'train')} ({opt.get('name')})"
        self.options, self.chain = parse_dataset(opt, where)
        self.gt_store = _open(self.options, "dataroot_gt", where)
        self.lq_store = _open(self.options, "dataroot_lq", where) if self.options.dataroot_lq else None
        self._check_images(where)

    def __len__(self) -> int:
        return len(self.gt_store.names)

    def __getitem__(self, index: int) -> Sample:
        name = self.gt_store.names[index]
        gt = self._read(self.gt_store, name)
        ready = self._read(self.lq_store, self._lq_name(name)) if self.lq_store else None
        gt = self._crop_to_scale(gt, ready, name)
        lq, gt = self._patch(gt, ready, name) if self.options.phase == "train" else self._whole(gt, ready)
        lq_path = self.lq_store.path(self._lq_name(name)) if self.lq_store else self.gt_store.path(name)
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "lq_path": lq_path, "gt_path": self.gt_store.path(name)}

    def _check_images(self, where: str) -> None:
        """What can be said about the images before reading any."""
        if self.lq_store is not None:
            missing = {self._lq_name(name) for name in self.gt_store.names} - set(self.lq_store.names)
            if missing:
                raise UserError(f"{where}.dataroot_lq: {self.options.dataroot_lq} has no image '{min(missing)}'")
        if self.options.phase == "train":
            for name, size in self.gt_store.sizes().items():
                self._check_patch_fits(size, name)

    def _check_patch_fits(self, size: tuple[int, int], name: str) -> None:
        gt_size = self.options.gt_size or 0
        if min(size) < gt_size:
            raise UserError(
                f"{self.gt_store.path(name)}: {size[0]}×{size[1]} pixels, smaller than the patch of {gt_size}; "
                "take the image out or lower gt_size"
            )

    def _lq_name(self, gt_name: str) -> str:
        folder, _, stem = gt_name.rpartition("/")
        stem = self.options.filename_tmpl.format(stem)
        return f"{folder}/{stem}" if folder else stem

    def _read(self, store: ImageStore, name: str) -> Image:
        return convert_channels(store.read(name), self.options.channels, store.path(name))

    def _crop_to_scale(self, gt: Image, ready: Image | None, name: str) -> Image:
        """Crop the ground truth to a multiple of the scale, and to a ready-made LQ's extent."""
        scale = self.options.scale
        height, width = gt.shape[0] // scale, gt.shape[1] // scale
        if min(height, width) < 1:
            raise UserError(f"{self.gt_store.path(name)}: smaller than the scale {scale}; take the image out")
        if ready is not None and ready.shape != (height, width, gt.shape[2]):
            raise UserError(
                f"{self.gt_store.path(name)}: GT of {gt.shape[0]}×{gt.shape[1]}×{gt.shape[2]} does not fit LQ of "
                f"{ready.shape[0]}×{ready.shape[1]}×{ready.shape[2]} at scale {scale}; check scale and dataroot_lq"
            )
        return gt[: height * scale, : width * scale]

    def _whole(self, gt: Image, ready: Image | None) -> tuple[Degraded, Image]:
        return (degrade(gt, self.chain, image_stream(gt, self.options.noise_seed)) if ready is None else ready), gt

    def _patch(self, gt: Image, ready: Image | None, name: str) -> tuple[Degraded, Image]:
        self._check_patch_fits((gt.shape[0], gt.shape[1]), name)
        rng = np.random.default_rng(torch.randint(2**62, (2,)).tolist())
        flips = rng.random(3) < 0.5
        flips &= (self.options.use_hflip, self.options.use_rot, self.options.use_rot)
        gt = augment_view(gt, flips)
        scale, gt_size = self.options.scale, self.options.gt_size or 0
        lq_size = gt_size // scale
        top, left = (int(rng.integers(length // scale - lq_size + 1)) for length in gt.shape[:2])
        box = (top, left, top + lq_size, left + lq_size)
        lq: Degraded
        if ready is None:
            lq = degrade_crop(gt, self.chain, box, rng)
        else:
            lq = augment_view(ready, flips)[box[0] : box[2], box[1] : box[3]]
        return lq, gt[top * scale : top * scale + gt_size, left * scale : left * scale + gt_size]


def _open(options: DatasetOptions, key: str, where: str) -> ImageStore:
    root = getattr(options, key)
    if not Path(root).exists():
        raise UserError(f"{where}.{key}: {root} not found; {missing_data_remedy(root)}")
    return open_store(root, is_lmdb=options.is_lmdb)


def image_stream(img: Image, seed: int) -> np.random.Generator:
    """Random stream that depends on the seed and the image's content alone."""
    digest = hashlib.sha256(img.tobytes()).digest()
    return np.random.default_rng([seed, *np.frombuffer(digest, np.uint32).tolist()])


def augment_view(img: Image, flips: NDArray[np.bool_]) -> Image:
    """Flip left-right, flip upside down, transpose, each if asked for: a view, without copying (H, W, C)."""
    if flips[0]:
        img = img[:, ::-1]
    if flips[1]:
        img = img[::-1]
    return img.transpose(1, 0, 2) if flips[2] else img


def to_tensor(img: Degraded) -> Tensor:
    """(H, W, C) on 0..255 to a contiguous (C, H, W) float32 tensor on 0..1."""
    chw = np.ascontiguousarray(img.transpose(2, 0, 1), dtype=np.float32)
    return torch.from_numpy(chw).div_(255)
