"""Files of 8 and 16 bits through a network: what comes back is what double precision makes of all their bits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import torch
from kinds_of_files import SOURCES, TINY, Array, write_sources
from restored_files import option_file, read_result, restored

from rnan_plugin.archs.rnan_arch import RNAN

DEPTHS = {
    "rgb8.png": "rgb8",
    "grey8.png": "grey8",
    "rgb16.tif": "rgb16",
    "grey16.tif": "grey16",
}


def test_both_depths_equal_the_network_in_double_precision(tmp_path: Path) -> None:
    """What it makes of all bits that the file has, rounded once."""
    network, net = option_file(tmp_path)
    with torch.no_grad():
        net.tail[-1].weight *= 3
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    (tmp_path / "in").mkdir()
    write_sources(tmp_path)
    for name in DEPTHS:
        shutil.copy(tmp_path / name, tmp_path / "in" / name)
    assert restored(tmp_path, network, {}, "--policy", "whole").code == 0
    for name, source in DEPTHS.items():
        img = SOURCES[source]
        white = int(np.iinfo(img.dtype).max)
        expected = in_double(net, img / white) * white
        result = read_result(tmp_path / f"out/{Path(name).stem}.png").reshape(img.shape)
        assert result.dtype == img.dtype
        # One rounding, of grey a second; and what float32 loses of 16 bits.
        most = 0.5 + (0.1 if white == 255 else 1) + (0.5 if img.shape[2] == 1 else 0)
        assert np.abs(result - expected).max() <= most, name
        if white == 65535:  # of 8 bits alone it would have made something else
            coarse = in_double(net, np.rint(img / 257) / 255) * white
            assert np.abs(coarse - expected).mean() > 20


def in_double(net: RNAN, img: Array) -> Array:
    """(H, W, C) on 0..1 through the network; grey three times over, and the mean of it."""
    colour = img if img.shape[2] == 3 else img.repeat(3, axis=2)
    double = RNAN(3, 3, **TINY).double().eval()
    double.load_state_dict(net.state_dict())
    with torch.no_grad():
        out = double(torch.from_numpy(colour.transpose(2, 0, 1)[None].astype(np.float64)))[0].clamp(0, 1)
    out = out.permute(1, 2, 0).numpy()
    return out if img.shape[2] == 3 else out.mean(axis=2, keepdims=True)
