"""Attention maps: rows of the matrix of all pairs, without the matrix."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from matplotlib.axes import Axes

from rnan_plugin.__main__ import main
from rnan_plugin.archs.attention import SoftmaxOver
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.errors import UserError
from rnan_plugin.inference import attention_maps
from rnan_plugin.inference.attention_maps import mixed_masks, non_local_maps


def network(softmax_over: SoftmaxOver, **arguments: int) -> RNAN:
    torch.manual_seed(0)
    net = RNAN(**({"num_in_ch": 1, "num_out_ch": 1, "num_feat": 8, "num_rab": 1, "num_rnab": 2} | arguments))
    for name, weight in net.named_parameters():
        if ".theta." in name or ".phi." in name:
            torch.nn.init.normal_(weight)
    for block in net.modules():
        if hasattr(block, "softmax_over"):
            block.softmax_over = softmax_over
    return net.eval()


@pytest.mark.parametrize("softmax_over", ["keys", "queries"])
def test_map_is_a_row_of_the_matrix_of_all_pairs(softmax_over: SoftmaxOver, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention_maps, "_BLOCK_VALUES", 5 * 42)  # several blocks of rows
    net, lq = network(softmax_over), torch.rand(1, 1, 6, 7)
    maps = non_local_maps(net, lq, 2, 3)
    assert list(maps) == ["body.0.mask.non_local", "body.2.mask.non_local"]
    block = net.get_submodule("body.0.mask.non_local")
    feat = net.body[0].head(net.head(lq))
    query, key = (embed(feat)[0].flatten(1).t() for embed in (block.theta, block.phi))
    matrix = torch.softmax(query @ key.t(), dim=1 if softmax_over == "keys" else 0)
    torch.testing.assert_close(maps["body.0.mask.non_local"].flatten(), matrix[2 * 7 + 3])
    # What the block adds is what these weights take of the values.
    value = block.g(feat)[0].flatten(1).t()
    torch.nn.init.normal_(block.w.weight)
    taken = torch.nn.functional.linear(maps["body.0.mask.non_local"].flatten() @ value, block.w.weight[..., 0, 0])
    torch.testing.assert_close((block(feat) - feat)[0, :, 2, 3], taken, rtol=1e-4, atol=1e-5)


def test_masks_are_those_the_trunk_is_multiplied_with() -> None:
    net, lq = network("keys"), torch.rand(1, 1, 9, 7)
    masks = mixed_masks(net, lq)
    assert list(masks) == ["body.0.mask", "body.1.mask", "body.2.mask"]
    expected = net.body[0].mask(net.body[0].head(net.head(lq)))[0]
    torch.testing.assert_close(masks["body.0.mask"], expected)
    assert all(mask.shape == (8, 9, 7) and 0 < mask.min() <= mask.max() < 1 for mask in masks.values())


def test_what_cannot_be_looked_at_is_one_line() -> None:
    with pytest.raises(UserError, match="position 6, 0 lies outside the image of 6×7 pixels"):
        non_local_maps(network("keys"), torch.rand(1, 1, 6, 7), 6, 0)
    with pytest.raises(UserError, match="no non-local block"):
        non_local_maps(network("keys", num_rnab=0), torch.rand(1, 1, 6, 7), 0, 0)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    photo = np.random.default_rng(0).integers(0, 256, (24, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "a.png"), photo)
    return tmp_path / "a.png"


def test_command_draws_a_picture(image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["attention", str(image), str(tmp_path / "maps"), "--task", "car", "--level", "10", "--overwrite"]
    assert main([*arguments, "--pixel", "12", "10"]) == 0
    picture = cv2.imread(str(tmp_path / "maps.png"))
    assert picture is not None
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) > 100  # colours of maps, not a blank page
    assert main([*arguments, "--pixel", "24", "0"]) == 2
    assert "lies outside the image of 24×20" in capsys.readouterr().err


@pytest.mark.parametrize("size", [(1, 30), (30, 1), (1, 1)])
@pytest.mark.parametrize(("task", "level", "channels"), [("car", 10, 1), ("colordn", 50, 3)])
def test_an_image_of_one_row_or_column_is_drawn(
    size: tuple[int, int], task: str, level: float, channels: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    drawn: list[tuple[int, ...]] = []
    show = Axes.imshow
    monkeypatch.setattr(Axes, "imshow", lambda self, img, **how: (drawn.append(img.shape), show(self, img, **how))[1])
    cv2.imwrite(str(tmp_path / "line.png"), np.full((*size, 3), 90, np.uint8))
    arguments = ["attention", str(tmp_path / "line.png"), str(tmp_path / "maps.png"), "--pixel", "0", "0"]
    assert main([*arguments, "--task", task, "--level", str(level)]) == 0
    assert drawn[0] == (size if channels == 1 else (*size, 3))


TARGETS = [
    ("a.png", [], "the result would replace its input"),
    ("a.png", ["--overwrite"], "the result would replace its input"),
    ("link.png", ["--overwrite"], "the result would replace its input"),
    ("mine.png", [], "exists already; name another file, or add --overwrite"),
    ("maps.xyz", [], "maps.xyz: no format of a picture; end it in one of .png .pdf .svg"),
    ("folder.png", ["--overwrite"], "folder.png: is a folder, which no file is to replace"),
    ("mine.png/maps.png", [], "mine.png is a file, not a folder"),
]


@pytest.mark.parametrize(("target", "more", "told"), TARGETS)
def test_a_picture_replaces_nothing_unasked(
    target: str, more: list[str], told: str, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine.png").write_bytes(b"mine")
    (tmp_path / "link.png").symlink_to(image)
    (tmp_path / "folder.png").mkdir()
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    arguments = ["attention", str(image), str(tmp_path / target), "--task", "car", "--level", "10"]
    assert main([*arguments, "--pixel", "12", "10", *more]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert told in line
    assert {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()} == before


def test_a_picture_that_is_there_is_replaced_where_that_is_asked_for(image: Path, tmp_path: Path) -> None:
    (tmp_path / "mine.PDF").write_bytes(b"mine")
    arguments = ["attention", str(image), str(tmp_path / "mine.PDF"), "--task", "car", "--level", "10", "--overwrite"]
    assert main([*arguments, "--pixel", "12", "10"]) == 0
    assert (tmp_path / "mine.PDF").read_bytes().startswith(b"%PDF")
