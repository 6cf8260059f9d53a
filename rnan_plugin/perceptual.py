"""LPIPS, a learned distance of images: the package lpips, with weights from files that are named; nothing is fetched.

Source: Zhang, Isola, Efros, Shechtman, Wang, "The Unreasonable Effectiveness of Deep Features", CVPR 2018.
"""

from __future__ import annotations

import importlib.util
import warnings
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from rnan_plugin.checkpoints import read, weights_in
from rnan_plugin.errors import UserError
from rnan_plugin.files import sha256_of
from rnan_plugin.targets import expanded

# The network of a backbone's file, by a tensor that it alone has: its name, and its shape.
_BACKBONES = {
    "alex": ("features.0.weight", (64, 3, 11, 11)),
    "vgg": ("features.28.weight", (512, 512, 3, 3)),
    "squeeze": ("features.3.squeeze.weight", (16, 64, 1, 1)),
}
_SMALLEST = 32  # pixels of a side; the backbones halve images up to five times


@dataclass(frozen=True)
class Lpips:
    """LPIPS by the weights of two files; see `lpips`.

    Args:
        weights: Of the backbone, a file of torchvision: AlexNet, VGG16, or SqueezeNet 1.1.
        linear: Of the layers behind it, such as `lpips/weights/v0.1/alex.pth` of the package.
    """

    weights: str
    linear: str

    def __call__(self, img: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
        """Of two images."""
        return lpips(img, other, self.weights, self.linear)

    def describe(self) -> str:
        """What a number of it depends on, for a protocol."""
        kind = lpips_network(self.weights, self.linear).pnet_type
        files = (Path(expanded(file)) for file in (self.weights, self.linear))
        hashes = [sha256_of(file)[:12] for file in files]
        return f"{kind}, RGB or grey, version 0.1, weights {hashes[0]}, linear layers {hashes[1]}"


def lpips(img: NDArray[np.uint8], other: NDArray[np.uint8], weights: str, linear: str) -> float:
    """LPIPS of two images (H, W, 3) RGB or (H, W, 1), 0..255; 0 for equal images, lower is better. On the CPU.

    Args:
        img: One image.
        other: Of the same shape.
        weights: The backbone's, a file of torchvision: AlexNet, VGG16, or SqueezeNet 1.1.
        linear: Those of the layers behind it, such as `lpips/weights/v0.1/alex.pth` of the package.

    Raises:
        UserError: A file is missing or another one, the package is not installed, or the images are too small.
    """
    if img.shape != other.shape:
        raise UserError(f"images of different shapes: {img.shape} and {other.shape}")
    if min(img.shape[:2]) < _SMALLEST:
        raise UserError(
            f"LPIPS needs images of {_SMALLEST}×{_SMALLEST} pixels or more, not {img.shape[0]}×{img.shape[1]}"
        )
    net = lpips_network(weights, linear)
    with torch.no_grad():
        return float(net(_tensor(img), _tensor(other)))


def _tensor(img: NDArray[np.uint8]) -> Tensor:
    """(1, 3, H, W), -1..1; grey is grey in three channels."""
    rgb = np.broadcast_to(img, (*img.shape[:2], 3)).astype(np.float32)
    return torch.from_numpy(rgb / 127.5 - 1).permute(2, 0, 1)[None].contiguous()


@lru_cache(maxsize=2)
def lpips_network(weights: str, linear: str) -> nn.Module:
    """The network that `lpips` computes with; errors as there."""
    if importlib.util.find_spec("lpips") is None:
        raise UserError("LPIPS needs the package lpips; pip install 'rnan_plugin[lpips]'")
    backbone, layers = (weights_in(read(expanded(file)), file) for file in (weights, linear))
    kinds = [kind for kind, (name, shape) in _BACKBONES.items() if name in backbone and backbone[name].shape == shape]
    if not kinds:
        raise UserError(f"{weights}: not torchvision's weights of AlexNet, VGG16 or SqueezeNet 1.1; take such a file")
    net = _built(kinds[0])
    try:
        # `slice2.3.weight` of the package is torchvision's `features.3.weight`.
        own = {name: backbone[f"features.{name.partition('.')[2]}"] for name in net.net.state_dict()}
        net.net.load_state_dict(own)
    except (KeyError, RuntimeError):
        raise UserError(f"{weights}: damaged, or not torchvision's weights of {kinds[0]}; take another copy") from None
    lines = {name for name in net.state_dict() if name.startswith("lin") and not name.startswith("lins.")}
    if layers.keys() != lines or any(layers[name].shape != net.state_dict()[name].shape for name in lines):
        raise UserError(f"{linear}: not LPIPS's linear layers for {kinds[0]}; take lpips/weights/v0.1/{kinds[0]}.pth")
    net.load_state_dict(layers, strict=False)
    return net.eval()


def _built(kind: str) -> Any:
    """The package's network, its weights drawn at random: it would fetch or look for its own otherwise."""
    import lpips as package

    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")  # torchvision's, of an argument that the package still uses
        return package.LPIPS(net=kind, pretrained=False, pnet_rand=True, verbose=False)
