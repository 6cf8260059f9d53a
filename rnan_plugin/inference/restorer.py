"""Networks with trained or released weights, and images restored by them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

import rnan_plugin
from rnan_plugin.archs.official_weights import load_released
from rnan_plugin.checkpoints import read_checkpoint
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.images.color import Channels, convert_channels, rgb2y
from rnan_plugin.images.tensors import to_tensor
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.errors import UserError, nearest
from rnan_plugin.inference.policy import Policy, Progress, restore
from rnan_plugin.inference.shipped import load_shipped, shipped_file, shipped_names
from rnan_plugin.inference.restorer import as_mosaic
from rnan_plugin.options.schema import check_call, read_option_file

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
# BT.601: the share of Y in R, G and B when MATLAB's `ycbcr2rgb` turns 16..235 into 0..255.
_Y_GAIN = 255 / 219


@dataclass(frozen=True)
class Settings:
    """How to restore.

    Args:
        policy: How the network is applied.
        device: "auto" (a GPU if there is one), or a torch device.
        precision: One of `PRECISIONS`.
        compile: Compile the network first; worth it for many images.
        channels: What a one-channel network restores of colour images: "y" (luma; chroma is kept) or "gray".
    """

    policy: Policy = field(default_factory=Policy)
    device: str = "auto"
    precision: str = "float32"
    compile: bool = False
    channels: Channels | None = None


@dataclass(frozen=True)
class Loaded:
    """A network in eval mode, the channels its data sets have (None if unknown), and its weights' file."""

    net: nn.Module
    channels: Channels | None
    weights: str


def load_network(option_file: str | None, weights: str | None, setting: TaskAtLevel | None = None) -> Loaded:
    """Build the network of an option file, of a released checkpoint, or of the weights in the package.

    Args:
        option_file: Its `network_g`, any network of the toolbox, and `path.pretrain_network_g`.
        weights: A released checkpoint; with `option_file`, instead of the file's own.
        setting: The task and level to take the package's weights for, where neither of the others is given.

    Raises:
        UserError: Nothing is named, or a file is missing, damaged or of another kind.
    """
    if option_file is not None:
        return _load_described(option_file, weights)
    if weights is not None:
        net = load_released(weights)
        return Loaded(net, "rgb" if net.head.in_channels == 3 else None, weights)
    if setting is not None:
        return Loaded(load_shipped(setting), setting.task.channels, str(shipped_file(setting)))
    raise UserError(
        f"name what to restore from with --task and --level (weights in the package: {shipped_names()}), "
        "or weights with -opt FILE (option file) or --weights FILE (released weights)"
    )


def _load_described(option_file: str, weights: str | None) -> Loaded:
    """The network that an option file describes."""
    config = read_option_file(option_file)
    path = weights or config["path"].get("pretrain_network_g")
    if path is None:
        raise UserError(f"{option_file}: path.pretrain_network_g is empty; name a checkpoint there or with --weights")
    network = config.get("network_g") or {}
    arguments = {key: value for key, value in network.items() if key != "type"}
    architecture = RNAN if network.get("type") == "RNAN" else _toolbox_architecture(network, option_file)
    check_call(architecture, arguments, f"{option_file}, network_g")
    net = architecture(**arguments)
    _load_checkpoint(net, path, config["path"].get("param_key_g", "params"))
    datasets: list[Mapping[str, Any]] = list(config["datasets"].values())
    return Loaded(net.eval(), datasets[0].get("channels", "rgb") if datasets else None, path)


def _toolbox_architecture(network: Mapping[str, Any], option_file: str) -> type[nn.Module]:
    import rnan_plugin.training.connect  # noqa: F401 - takes seconds; RNAN needs none of it
    from rnan_plugin.toolbox.api import ARCH_REGISTRY

    if network.get("type") not in ARCH_REGISTRY:
        known = nearest(str(network.get("type")), ARCH_REGISTRY.keys())
        raise UserError(f"{option_file}, network_g.type: no '{network.get('type')}' in the toolbox{known}")
    architecture: type[nn.Module] = ARCH_REGISTRY.get(network["type"])
    return architecture


def _load_checkpoint(net: nn.Module, path: str, param_key: str) -> None:
    checkpoint = read_checkpoint(path)
    if param_key not in checkpoint:
        raise UserError(f"{path}: no '{param_key}' in it (path.param_key_g); it has {', '.join(checkpoint)[:100]}")
    try:
        net.load_state_dict(checkpoint[param_key], strict=True)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise UserError(f"{path}: does not fit network_g ({reason})") from None


class Restorer:
    """A network, ready to restore 8-bit images on its device."""

    def __init__(
        self, net: nn.Module, channels: Channels | None, settings: Settings, setting: TaskAtLevel | None = None
    ) -> None:
        name = settings.device if settings.device != "auto" else ("cuda" if torch.cuda.is_available() else "cpu")
        self.device, self.dtype = _device(name), PRECISIONS[settings.precision]
        self.num_channel = next(weight.shape[1] for weight in net.parameters() if weight.ndim == 4)
        self.channels = settings.channels or channels
        self.policy = settings.policy
        self.setting = setting
        net = net.to(self.device).to(memory_format=torch.channels_last)
        self.net = torch.compile(net, dynamic=True) if settings.compile else net

    def __call__(
        self, img: NDArray[np.uint8], name: str, progress: Progress | None = None
    ) -> tuple[NDArray[np.uint8], Policy]:
        """Restore (H, W, 3) RGB or (H, W, 1) grey, 0..255; return the restored image and the policy used.

        `progress` is as of `inference.restore`.

        Raises:
            UserError: The network and the image do not go together; names the image.
        """
        if self.setting is not None and self.setting.name == "demosaic":
            img = as_mosaic(img, name)
        if img.shape[2] < self.num_channel:
            raise UserError(f"{name}: grey, but the network restores colour; take weights for grey or luma")
        if img.shape[2] == self.num_channel:
            return self._restore(img, progress)
        if self.channels not in {"gray", "y"}:
            raise UserError(f"{name}: colour, but the network restores one channel; add --channels y or gray")
        luma = convert_channels(img, self.channels, name)
        restored, used = self._restore(luma, progress)
        return (restored if self.channels == "gray" else _replace_luma(img, restored)), used

    def _restore(self, img: NDArray[np.uint8], progress: Progress | None) -> tuple[NDArray[np.uint8], Policy]:
        lq = to_tensor(img)[None].to(self.device).contiguous(memory_format=torch.channels_last)
        # Only the layers compute in a narrow type: the image itself, with its residual, stays in float32.
        narrow = self.dtype != torch.float32
        with torch.autocast(self.device.type, self.dtype) if narrow else nullcontext():
            try:
                output, used = restore(self.net, lq, self.policy, progress)
            except RuntimeError as error:
                if "InvalidCxxCompiler" not in str(error):
                    raise
                raise UserError("--compile: needs a C++ compiler; install g++, or leave it out") from None
        return _to_image(output), used


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(f"--device {name}: not usable here ({reason}); use cpu, or leave it out") from None


def _to_image(output: Tensor) -> NDArray[np.uint8]:
    levels = (output[0].float().clamp(0, 1) * 255).round().byte()
    return levels.permute(1, 2, 0).contiguous().cpu().numpy()


def _replace_luma(img: NDArray[np.uint8], luma: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Give an RGB image another Y, its chroma kept: that adds the same to R, G and B."""
    if luma.shape[:2] != img.shape[:2]:
        raise UserError("super-resolution of luma alone is not supported; use a colour network")
    gain = _Y_GAIN * (luma.astype(np.float32) - rgb2y(img))
    return np.clip(np.rint(img + gain), 0, 255).astype(np.uint8)


def provenance_of(weights: str, settings: Settings, restorer: Restorer) -> dict[str, Any]:
    """What a result depends on: weights, policy, device, precision, versions."""
    return {
        "weights": weights,
        "weights_sha256": hashlib.sha256(Path(weights).read_bytes()).hexdigest(),
        "policy_asked_for": asdict(settings.policy),
        "device": str(restorer.device),
        "precision": settings.precision,
        "compiled": settings.compile,
        "rnan_plugin": rnan_plugin.__version__,
        "torch": torch.__version__,
    }
