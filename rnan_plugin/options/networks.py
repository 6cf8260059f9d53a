"""The section `network_g` of the shipped option files: RNAN, and the networks of BasicSR in its place."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from rnan_plugin.archs.rnan_arch import DIV2K_MEAN, UPSCALES
from rnan_plugin.choices import NetworkName
from rnan_plugin.errors import UserError, shown

Section = dict[str, Any]

LARGEST_ARGUMENT = 2**14  # of blocks, features and the like; building more would not end
PATCH = 48  # side of the LQ patch of the paper's training, in pixels


@dataclass(frozen=True)
class Network:
    """What can stand as `network_g`.

    Args:
        build: The section for a number of channels (1 or 3) and a scale.
        scales: Pixels of the output for one of the input, in each direction, that it is written for.
        colour_only: Whether it is written for RGB alone: it shifts the mean of three channels.
    """

    build: Callable[[int, int], Section]
    scales: tuple[int, ...]
    colour_only: bool = False


def check_size(network: Mapping[str, Any], where: str) -> None:
    """Refuse a section with a number that no network can be built with.

    Raises:
        UserError: A line for each.
    """
    lines = [
        f"{where}.{key}: {shown(value)} is larger than any network can be built with"
        for key, value in network.items()
        if any(abs(number) > LARGEST_ARGUMENT for number in _numbers(value))
    ]
    if lines:
        raise UserError(*lines)


def _numbers(value: Any) -> Iterator[float]:
    if isinstance(value, int | float):
        yield value
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _numbers(item)


def network_section(name: NetworkName, num_channel: int, scale: int) -> Section:
    """The section `network_g` for images of 1 or 3 channels.

    Raises:
        UserError: The network is not written for so many channels, or the scale.
    """
    check_fits(name, num_channel, scale)
    return NETWORKS[name].build(num_channel, scale)


def check_fits(name: NetworkName, num_channel: int, scale: int) -> None:
    """Whether a network can stand in a file for images of 1 or 3 channels at a scale.

    Raises:
        UserError: It can't.
    """
    if reason := unfit(name, num_channel, scale):
        others = ", ".join(other for other in NETWORKS if unfit(other, num_channel, scale) is None)
        raise UserError(f"network: {reason}{f'; these do: {others}' if others else ''}")


def unfit(name: NetworkName, num_channel: int, scale: int) -> str | None:
    """Why a network can't stand in a file for images of 1 or 3 channels at a scale; None if it can."""
    network = NETWORKS[name]
    if scale not in network.scales:
        legal = ", ".join(f"×{legal}" for legal in network.scales if legal > 1)
        does = (
            f"enlarges {legal}, not ×{scale:g}"
            if legal
            else f"keeps the size of its input, and can't enlarge ×{scale:g}"
        )
        return f"{name} {does}"
    if network.colour_only and num_channel != 3:
        return f"{name} takes RGB images alone, not those of one channel"
    return None


def rnan(num_channel: int, scale: int, num_feat: int = 64, num_rab: int = 8, num_rnab: int = 2) -> Section:
    """RNAN; the paper's size unless others are given."""
    section: Section = {"type": "RNAN", **_channels(num_channel), "num_feat": num_feat}
    section |= {"num_rab": num_rab, "num_rnab": num_rnab}
    if scale > 1:
        section["upscale"] = scale
        if num_channel == 3:
            section["img_mean"] = list(DIV2K_MEAN)
    return section


def small_rnan(num_channel: int, scale: int) -> Section:
    """RNAN of a size that a laptop trains: one block of each kind."""
    return rnan(num_channel, scale, num_feat=32, num_rab=1, num_rnab=1)


def msrresnet(num_channel: int, scale: int, num_feat: int = 64, num_block: int = 16) -> Section:
    """MSRResNet; `MSRResNetX1` where the size is kept, which BasicSR's own fails to build."""
    section: Section = {"type": "MSRResNet" if scale > 1 else "MSRResNetX1", **_channels(num_channel)}
    section |= {"num_feat": num_feat, "num_block": num_block}
    return section | ({"upscale": scale} if scale > 1 else {})


def _edsr(num_channel: int, scale: int) -> Section:
    return {"type": "EDSR", **_channels(num_channel), "num_feat": 64, "num_block": 16, **_residual(scale)}


def _rcan(num_channel: int, scale: int) -> Section:
    blocks = {"num_feat": 64, "num_group": 10, "num_block": 20, "squeeze_factor": 16}
    return {"type": "RCAN", **_channels(num_channel), **blocks, **_residual(scale)}


def _ridnet(num_channel: int, scale: int) -> Section:  # noqa: ARG001 - it keeps the size
    channels = {"in_channels": num_channel, "mid_channels": 64, "out_channels": num_channel}
    return {"type": "RIDNet", **channels, "num_block": 4, **_shift(), "rgb_std": [1.0, 1.0, 1.0]}


def _swinir(num_channel: int, scale: int) -> Section:
    shape = {"upscale": scale, "in_chans": num_channel, "img_size": PATCH, "window_size": 8, "img_range": 1.0}
    blocks = {"depths": [6] * 6, "embed_dim": 180, "num_heads": [6] * 6, "mlp_ratio": 2}
    ends = {"upsampler": "pixelshuffle" if scale > 1 else "", "resi_connection": "1conv"}
    return {"type": "SwinIR", **shape, **blocks, **ends}


def _channels(num_channel: int) -> Section:
    return {"num_in_ch": num_channel, "num_out_ch": num_channel}


def _residual(scale: int) -> Section:
    return {"upscale": scale, "res_scale": 1, **_shift()}


def _shift() -> Section:
    return {"img_range": 255.0, "rgb_mean": list(DIV2K_MEAN)}


NETWORKS: dict[NetworkName, Network] = {
    "RNAN": Network(rnan, UPSCALES),
    "EDSR": Network(_edsr, (1, 2, 3, 4, 8), colour_only=True),
    "MSRResNet": Network(msrresnet, (1, 2, 3, 4)),
    "RCAN": Network(_rcan, (1, 2, 3, 4, 8), colour_only=True),
    "RIDNet": Network(_ridnet, (1,), colour_only=True),
    "SwinIR": Network(_swinir, (1, 2, 3, 4, 8)),
}
