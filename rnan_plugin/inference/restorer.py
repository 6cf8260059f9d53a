"""Images restored by a network: channels, device, precision, policy."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from rnan_plugin import device as devices
from rnan_plugin.choices import ONE_CHANNEL, AskedPrecision, Channels
from rnan_plugin.errors import UserError
from rnan_plugin.files import sha256_of
from rnan_plugin.images.color import (
    Pixels,
    convert_channels,
    full_scale,
    in_strips,
    mean_of_channels,
    rgb2y,
)
from rnan_plugin.images.degradations import BayerMosaic
from rnan_plugin.inference.network_facts import channels_in
from rnan_plugin.inference.policy import Policy
from rnan_plugin.inference.whole_images import Progress, restore_image
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.version import __version__

# BT.601: the share of Y in R, G and B when MATLAB's `ycbcr2rgb` turns 16..235 into 0..255.
_Y_GAIN = 255 / 219


@dataclass(frozen=True)
class RestoreSettings:
    """How to restore.

    Args:
        policy: How the network is applied.
        device: As `device.choose` takes it.
        precision: Of the layers, as `device.precision_on` takes it; the image itself, with its residual, stays in
            float32.
        compile: Compile the network first; worth it for many images.
        channels: What a one-channel network restores of colour images: "y" (luma; chroma is kept) or "gray".
    """

    policy: Policy = field(default_factory=Policy)
    device: str = "auto"
    precision: AskedPrecision = "float32"
    compile: bool = False
    channels: Channels | None = None


class Restorer:
    """A network, ready to restore images of 8 or 16 bits on its device."""

    def __init__(
        self, net: nn.Module, channels: Channels | None, settings: RestoreSettings, task: TaskAtLevel | None = None
    ) -> None:
        self.device = devices.choose(settings.device)
        self.precision = devices.precision_on(self.device, settings.precision)
        self.num_channel = channels_in(net) or 3
        self.channels = settings.channels or (task.row.channels if task else channels)
        self.has_needless_channels = self.num_channel > 1 and settings.channels in ONE_CHANNEL
        self.policy = settings.policy
        self.task = task
        net = net.to(self.device).to(memory_format=torch.channels_last)
        self.net = torch.compile(net, dynamic=True) if settings.compile else net

    def __call__(self, img: Pixels, name: str, progress: Progress | None = None) -> tuple[Pixels, Policy]:
        """Restore (H, W, 3) RGB or (H, W, 1) grey, of 8 or 16 bits; return it, as deep, and the policy used.

        A network for colour gets a grey image three times over, and the mean of what it makes of them is grey again.

        `progress` is as of `inference.whole_images.restore`.

        Raises:
            UserError: The network and the image do not go together; names the image.
        """
        if self.task is not None and self.task.row.degradation == "mosaic":
            img = as_mosaic(img, name)
        if img.shape[2] < self.num_channel:
            colour = np.broadcast_to(img, (*img.shape[:2], self.num_channel))
            restored, used = self._restore(colour, name, progress)
            return mean_of_channels(restored), used
        if img.shape[2] == self.num_channel:
            return self._restore(img, name, progress)
        if self.channels not in {"gray", "y"}:
            raise UserError(f"{name}: colour, but the network restores one channel; add --channels y or gray")
        restored, used = self._restore(convert_channels(img, self.channels, name), name, progress)
        return (restored if self.channels == "gray" else _replace_luma(img, restored)), used

    def _restore(self, img: Pixels, name: str, progress: Progress | None) -> tuple[Pixels, Policy]:
        try:
            with devices.autocast(self.device, self.precision):
                return restore_image(self.net, img, self.policy, self.device, progress)
        except UserError as error:
            raise error.within(f"{name}: ") from None
        except (RuntimeError, MemoryError) as error:
            if "InvalidCxxCompiler" in str(error):
                raise UserError("--compile: needs a C++ compiler; install g++, or leave it out") from None
            if not devices.is_out_of_memory(error):
                raise
        raise UserError(f"{name}: out of memory with policy {self.policy.describe()}; use smaller tiles (--tile 64)")


def _replace_luma(img: Pixels, luma: Pixels) -> Pixels:
    """Give an RGB image another Y, its chroma kept: that adds the same to R, G and B."""
    if luma.shape[:2] != img.shape[:2]:
        raise UserError("super-resolution of luma alone is not supported; use a colour network")

    white = full_scale(img)

    def shifted(colour: Pixels, new: Pixels) -> Pixels:
        moved = np.rint(colour + _Y_GAIN * (new.astype(np.float32) - rgb2y(colour)))
        return np.clip(moved, 0, white).astype(img.dtype)

    return in_strips(shifted, img, luma)


def provenance_of(weights: str, settings: RestoreSettings, restorer: Restorer) -> dict[str, Any]:
    """What a result depends on: weights, policy, device, precision, versions."""
    return {
        "weights": weights,
        "weights_sha256": sha256_of(Path(weights)),
        "policy_asked_for": asdict(settings.policy),
        "device": str(restorer.device),
        "precision": restorer.precision,
        "compiled": settings.compile,
        "rnan_plugin": __version__,
        "torch": torch.__version__,
    }


def as_mosaic(img: Pixels, name: str) -> Pixels:
    """The mosaic (H, W, 3), zero where no sample was taken, of a GRBG mosaic with one or three channels.

    Raises:
        UserError: A colour image that is no GRBG mosaic.
    """
    mosaic = BayerMosaic()(img.repeat(3, axis=2) if img.shape[2] == 1 else img, np.random.default_rng())
    if img.shape[2] == 3 and (mosaic != img).any():
        raise UserError(
            f"{name}: not a GRBG mosaic, which has one colour a pixel and zeros in the other two (or one channel); "
            "`rnan degrade --task demosaic` makes mosaics of photographs"
        )
    return mosaic.astype(img.dtype, copy=False)
