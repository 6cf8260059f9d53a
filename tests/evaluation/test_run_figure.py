"""The picture of a training's curves: what is in it, and from which folders it is drawn."""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import pytest
from matplotlib import pyplot as plt
from torch.utils.tensorboard import SummaryWriter

from rnan_plugin.__main__ import main

mpl.use("Agg")


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "experiments/small").mkdir(parents=True)
    with SummaryWriter(str(tmp_path / "tb_logger/small")) as log:
        for step in (100, 200, 300):
            log.add_scalar("losses/l_pix", 1 / step, step)
            log.add_scalar("learning_rate", 1e-3, step)
            log.add_scalar("seconds_per_step", 0.5, step)
        for name in ("Classic5", "LIVE1"):
            log.add_scalar(f"metrics/{name}/psnr", 29.0, 300)
    return tmp_path


@pytest.mark.parametrize("folder", ["experiments/small", "tb_logger/small", "small"])
def test_every_curve_is_drawn_and_named(run: Path, folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plt.close("all")
    monkeypatch.chdir(run if "/" in folder else run / "experiments")
    assert main(["figure", folder, str(run / "out/curves")]) == 0
    assert (run / "out/curves.png").read_bytes().startswith(b"\x89PNG")
    panels = {axis.get_ylabel(): axis for axis in plt.gcf().axes}
    assert list(panels) == ["loss", "PSNR (dB)", "learning rate", "seconds per iteration"]
    assert {text.get_text().strip() for text in panels["PSNR (dB)"].texts} == {"Classic5", "LIVE1"}
    assert list(panels["loss"].lines[0].get_xdata()) == [100, 200, 300]


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["experiments/none", "x.png"], "tb_logger/none: no such log"),
        (["experiments/empty", "x.png"], "nothing is logged yet"),
        (["experiments/small", "x.xyz"], "x.xyz: no format of a picture"),
        (["experiments/small", "mine.png"], "mine.png: exists already; name another file, or add --overwrite"),
        (["results", "set", "a", "mine"], "mine.png: exists already; name another file, or add --overwrite"),
        (["experiments/silent", "x.png"], "has no log in"),
        (["compared", "x.png"], "compared: a comparison; name set and image too"),
        (["experiments/small", "Classic5", "x.png"], "image: of a comparison, name the set and the image"),
        (["experiments/small", "x.png", "--difference"], "--difference: are for a comparison"),
    ],
)
def test_what_can_not_be_drawn_is_told(
    run: Path, arguments: list[str], told: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run)
    for folder in ("tb_logger/empty", "experiments/silent", "compared"):
        (run / folder).mkdir(parents=True)
    (run / "compared/table.json").touch()
    (run / "mine.png").touch()
    before = sorted(run.rglob("*"))
    assert main(["figure", *arguments]) == 2
    assert told in capsys.readouterr().err
    assert sorted(run.rglob("*")) == before
