"""The data set of all five tasks: ground truth from a folder or LMDB, degraded on the fly."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from rnan_plugin.data.augmentation import augment_view, recoloured, unflipped
from rnan_plugin.data.dataset_options import DatasetOptions, missing_data_remedy, option_file, parse_dataset
from rnan_plugin.data.image_store import ImageStore, JoinedStore, is_lmdb, open_store
from rnan_plugin.data.lmdb_check import check_listing
from rnan_plugin.errors import RnanWarning, UserError, collect, shown
from rnan_plugin.images.color import NUM_CHANNEL, convert_channels
from rnan_plugin.images.degradations import (
    Box,
    Degraded,
    Image,
    crop_windows,
    cut,
    degrade,
    degrade_window,
    image_stream,
)
from rnan_plugin.images.levels import fixed
from rnan_plugin.images.tensors import to_tensor
from rnan_plugin.targets import absence

_TRIED = 64  # pixels of the side of what a chain is tried on, after it has shrunk


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
        opt: One entry of `datasets` in an option file; see `rnan_plugin.data.dataset_options.DatasetOptions`.

    Raises:
        UserError: A wrong key or value, or missing images; names file, key and remedy.
    """

    def __init__(self, opt: Mapping[str, Any]) -> None:
        self.opt = opt  # the toolbox reads the name from here
        name = opt.get("name")
        called = name[:80] if isinstance(name, str) else shown(name)
        where = f"{option_file() or 'option file'}, datasets.{opt.get('phase', 'train')} ({called})"
        self.options, self.chain = parse_dataset(opt, where)
        self.gt_store = _open(self.options, "dataroot_gt", where)
        self.lq_store = _open(self.options, "dataroot_lq", where) if self.options.dataroot_lq else None
        self._check_images(where)
        self._try_chain(f"{where}.degradation")
        self._grey_told = torch.zeros((), dtype=torch.bool).share_memory_()  # type: ignore[no-untyped-call]
        draws_pixels = self.options.phase == "train" and self.options.sampling == "pixels"
        self._patch_count = self._count_patches() if draws_pixels else None

    def __len__(self) -> int:
        return len(self.gt_store.names)

    def __getitem__(self, index: int) -> Sample:
        lq, gt, name = self._random_patch(index) if self.options.phase == "train" else self._whole(index)
        lq_path = self.lq_store.path(self._lq_name(name)) if self.lq_store else self.gt_store.path(name)
        return {"lq": to_tensor(lq), "gt": to_tensor(gt), "lq_path": lq_path, "gt_path": self.gt_store.path(name)}

    def _check_images(self, where: str) -> None:
        """What can be said about the images by their headers alone."""
        if self.lq_store is not None:
            missing = {self._lq_name(name) for name in self.gt_store.names} - set(self.lq_store.names)
            if missing:
                raise UserError(f"{where}.dataroot_lq: {self.options.dataroot_lq} has no image '{min(missing)}'")
        self._sizes = self.gt_store.sizes()
        ready = self.lq_store.sizes() if self.lq_store is not None else None
        for name, size in self._sizes.items():
            if self.options.phase == "train":
                self._check_patch_fits(size, name)
            self._lq_size(size, ready[self._lq_name(name)] if ready is not None else None, name)

    def _try_chain(self, where: str) -> None:
        """Degrade a small image of the set's channels: what a degradation has against them is told before the start."""
        rng = np.random.default_rng(0)
        side = _TRIED * self.options.scale
        img = np.zeros((side, side, NUM_CHANNEL[self.options.channels]), np.uint8)
        try:
            degrade(img, fixed(self.chain, rng), rng)
        except UserError as error:
            raise UserError(f"{where}: {error}") from None

    def _count_patches(self) -> NDArray[np.int64]:
        """Cumulative number of places for a patch, over the images."""
        gt_size = self.options.gt_size or 0
        places = [[length - gt_size + 1 for length in self._sizes[name]] for name in self.gt_store.names]
        return np.cumsum(np.prod(places, axis=1, dtype=np.int64))

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

    def _lq_size(self, gt: tuple[int, int], ready: tuple[int, int] | None, name: str) -> tuple[int, int]:
        """Height and width of the LQ image: the ground truth's over the scale, and a ready-made LQ's own."""
        scale = self.options.scale
        height, width = gt[0] // scale, gt[1] // scale
        if min(height, width) < 1:
            raise UserError(f"{self.gt_store.path(name)}: smaller than the scale {scale}; take the image out")
        if ready not in {None, (height, width)}:
            raise UserError(
                f"{self.gt_store.path(name)}: GT of {gt[0]}×{gt[1]} does not fit LQ of {ready[0]}×{ready[1]} "
                f"at scale {scale}; check scale and dataroot_lq"
            )
        return height, width

    def _read(self, store: ImageStore, name: str, box: Box | None = None) -> Image:
        img = store.read(name, box)
        if img.shape[2] == 1 and self.options.channels == "rgb" and self.options.phase == "train":
            self._tell_of_grey(store.path(name))
        return convert_channels(img, self.options.channels, store.path(name))

    def _tell_of_grey(self, path: str) -> None:
        """Warn once for all the workers of a data loader, which share the note."""
        if not self._grey_told:
            self._grey_told.fill_(True)
            told = (
                f"{path}: grey in '{self.options.name}', a set of colour; it and others like it are taken as R = G = B"
            )
            warnings.warn(told, RnanWarning, stacklevel=2)

    def _whole(self, index: int) -> tuple[Degraded, Image, str]:
        name = self.gt_store.names[index]
        gt = self._read(self.gt_store, name)
        ready = self._read(self.lq_store, self._lq_name(name)) if self.lq_store else None
        height, width = self._lq_size(_size(gt), _size(ready) if ready is not None else None, name)
        gt = gt[: height * self.options.scale, : width * self.options.scale]
        if ready is not None:
            return ready, gt, name
        stream = image_stream(gt, self.options.noise_seed)
        return degrade(gt, fixed(self.chain, stream), stream), gt, name

    def _random_patch(self, index: int) -> tuple[Degraded, Image, str]:
        """A random patch under a random flip; of the images, only the window it depends on is read."""
        rng = np.random.default_rng(torch.randint(2**62, (2,)).tolist())
        name = self.gt_store.names[index if self._patch_count is None else self._draw_image(rng)]
        flips = rng.random(3) < 0.5
        flips &= (self.options.use_hflip, self.options.use_rot, self.options.use_rot)
        scale, gt_size = self.options.scale, self.options.gt_size or 0
        lq_size = self._lq_size(self._sizes[name], None, name)
        height, width = lq_size[::-1] if flips[2] else lq_size  # as flipped
        box = _random_box((height, width), gt_size // scale, rng)
        gt_shape = (lq_size[0] * scale, lq_size[1] * scale)
        gt_box = (box[0] * scale, box[1] * scale, box[2] * scale, box[3] * scale)
        if self.lq_store is not None:
            lq = self._read(self.lq_store, self._lq_name(name), unflipped(box, lq_size, flips))
            gt = self._read(self.gt_store, name, unflipped(gt_box, gt_shape, flips))
            return augment_view(lq, flips), augment_view(gt, flips), name
        chain = fixed(self.chain, rng)
        shape = (height * scale, width * scale, NUM_CHANNEL[self.options.channels])
        windows = crop_windows(chain, box, shape)
        window = augment_view(self._read(self.gt_store, name, unflipped(windows[0], gt_shape, flips)), flips)
        window = recoloured(window, rng, permute=self.options.use_rgb_permute, saturation=self.options.saturation)
        return degrade_window(window, chain, windows, rng), cut(window, gt_box, windows[0][:2]), name

    def _draw_image(self, rng: np.random.Generator) -> int:
        """Index of an image, drawn so that every patch of the set is equally likely."""
        assert self._patch_count is not None
        return int(np.searchsorted(self._patch_count, rng.integers(self._patch_count[-1]), side="right"))


def _size(img: Image) -> tuple[int, int]:
    return img.shape[0], img.shape[1]


def _random_box(size: tuple[int, int], side: int, rng: np.random.Generator) -> Box:
    top, left = (int(rng.integers(length - side + 1)) for length in size)
    return top, left, top + side, left + side


def _open(options: DatasetOptions, key: str, where: str) -> ImageStore:
    root: str | list[str] = getattr(options, key)
    roots = root if isinstance(root, list) else [root]
    missing = {one: reason for one in roots if (reason := absence(one)) is not None}
    if missing:
        raise UserError(
            *(f"{where}.{key}: {one} {reason}; {missing_data_remedy(one)}" for one, reason in missing.items())
        )
    packed = is_lmdb if isinstance(root, list) else lambda _: options.is_lmdb
    try:
        collect(partial(check_listing if packed(one) else _check_folder, one) for one in roots)
        return JoinedStore(roots) if isinstance(root, list) else open_store(root, is_lmdb=options.is_lmdb)
    except OSError as error:  # a folder that may not be entered
        raise UserError(
            f"{where}.{key}: {error.filename}: can't be read ({error.strerror}); check the folder"
        ) from None
    except UserError as error:
        raise error.within(f"{where}.{key}: ") from None


def _check_folder(root: str) -> None:
    if Path(root, "data.mdb").exists():
        raise UserError(f"{root}: is an LMDB; set io_backend.type: lmdb in this entry, or name it NAME.lmdb in a list")
