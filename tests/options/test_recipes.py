"""Recipes: writing and comparing the shipped files, their layout, and the files of a task that was added."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from conftest import REPOSITORY
from printed_options import check_printed_options

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin
from rnan_plugin import choices
from rnan_plugin.__main__ import main
from rnan_plugin.data.dataset_options import build_chain, parse_dataset
from rnan_plugin.errors import UserError
from rnan_plugin.images.degradations import DEGRADATIONS, Degraded, Image, total_scale
from rnan_plugin.images.levels import fixed
from rnan_plugin.options import networks
from rnan_plugin.options.inputs import inputs_of
from rnan_plugin.options.layout import lay_out
from rnan_plugin.options.recipes import paper
from rnan_plugin.options.shipped_files import differences, shipped_files, write_files
from rnan_plugin.paper.tasks import TASKS, Blind, Task, TaskAtLevel, add_task
from rnan_plugin.toolbox.api import ARCH_REGISTRY
from rnan_plugin.training.launcher import _derive_paths
from rnan_plugin.training.option_doubts import _unlike_the_paper


@pytest.fixture
def options(tmp_path: Path) -> Path:
    """A copy of the shipped files."""
    return Path(shutil.copytree(REPOSITORY / "options", tmp_path / "options"))


def edited(file: Path, old: str, new: str) -> None:
    text = file.read_text(encoding="utf-8")
    assert old in text
    file.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("total_iter: 1300000", "total_iter: 1000", "train.total_iter is 1000, the recipe has 1300000"),
        ("sigma: 50", "sigma: 50.0", "datasets.train.degradation.sigma is 50.0, the recipe has 50"),
        ("  num_rab: 8\n", "", "network_g.num_rab is missing, the recipe has 8"),
        ("  num_rab: 8\n", "  num_rab: 8\n  upscale: 1\n", "network_g.upscale is 1, the recipe has no such key"),
        ("# Colour", "# Color", "comments or layout differ"),
        ("name:", "name: [", "not valid YAML"),
    ],
)
def test_a_changed_file_is_told_and_written_anew_only_where_asked(options: Path, old: str, new: str, told: str) -> None:
    file = options / "train_RNAN_ColorDN_s50.yml"
    before = file.read_bytes()
    edited(file, old, new)
    (line,) = differences(options)
    assert line.startswith(f"{file}: {told}")
    assert "\n" not in line
    changed, total = file.read_bytes(), len(list(options.rglob("*.yml")))
    assert write_files(options) == (0, total, [file])
    assert file.read_bytes() == changed
    assert write_files(options, overwrite=True) == (1, total, [])
    assert file.read_bytes() == before


def test_a_missing_file_is_told(options: Path) -> None:
    shutil.rmtree(options / "ablation")
    assert list(differences(options)) == [
        f"{options}/ablation/train_RNAN_case{case}.yml: missing" for case in range(1, 9)
    ]


def test_bytes_that_are_no_text_are_a_difference(options: Path) -> None:
    (options / "train_RNAN_Demosaic.yml").write_bytes(b"\xff\xfe\x00")
    (line,) = differences(options)
    assert line.startswith(f"{options}/train_RNAN_Demosaic.yml: ")
    assert write_files(options, overwrite=True)[0] == 1


def test_writing_into_nothing_gives_all_and_no_leftovers(tmp_path: Path) -> None:
    assert write_files(tmp_path / "new" / "options") == (135, 135, [])
    assert len([path for path in (tmp_path / "new").rglob("*") if path.is_file()]) == 135
    assert list(differences(tmp_path / "new" / "options")) == []


def test_a_folder_that_is_a_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "options").write_text("mine")
    with pytest.raises(UserError, match="can't be written") as error:
        write_files(tmp_path / "options")
    assert "\n" not in str(error.value)
    with pytest.raises(UserError, match="is a file, not a folder"):
        list(differences(tmp_path / "options"))
    with pytest.raises(UserError, match="no such folder"):
        list(differences(tmp_path / "gone"))


# Layout


@pytest.mark.parametrize(
    "value",
    [
        *(None, True, 0, 50, 0.0, 0.5, 25.5, 1e-8, 1.25e-7, 1e16, 0.0404, -3e-5, 1e300, float("inf")),
        *("", "~", "yes", "1conv", "1e-4", "GRBG", "a: b # c", "σ", "-", "a" * 200 + " b"),
        *([], {}, [0.9, 1e-4], ["x", None, [1, 2]]),
    ],
    ids=repr,
)
def test_yaml_reads_back_what_was_laid_out(value: Any) -> None:
    options = {"first": {"key": value, "policy": "tile"}, "last": value}
    text = lay_out(options, ["Two lines", "of comment: σ"])
    read = yaml.safe_load(text)
    assert repr(read) == repr(options)
    assert text.splitlines()[:2] == ["# Two lines", "# of comment: σ"]


def test_small_numbers_are_written_as_people_do() -> None:
    assert (
        lay_out({"lr": 1e-4, "eta_min": 2.5e-7, "gamma": 0.5})
        == "lr: !!float 1e-4\neta_min: !!float 2.5e-7\ngamma: 0.5\n"
    )


@pytest.mark.parametrize("file", list(shipped_files()), ids=lambda file: file.name)
def test_text_and_options_say_the_same(file: Any) -> None:
    assert repr(yaml.safe_load(file.text)) == repr(file.options)
    assert all(len(line) < 200 for line in file.text.splitlines())


# Networks


def test_every_network_that_can_be_named_has_a_section() -> None:
    assert tuple(networks.NETWORKS) == choices.NETWORKS


SMALL = {"num_feat": 16, "num_rab": 1, "num_rnab": 1, "num_block": 1, "num_group": 1, "mid_channels": 16}
SMALL |= {"img_size": 8, "depths": [2], "embed_dim": 12, "num_heads": [2]}  # type: ignore[dict-item]


@pytest.mark.parametrize("scale", [1, 2, 3, 4, 5, 6, 8])
@pytest.mark.parametrize("num_channel", [1, 3])
@pytest.mark.parametrize("name", choices.NETWORKS)
def test_a_network_restores_where_it_is_said_to_fit(name: Any, num_channel: int, scale: int) -> None:
    """And what is said not to fit can't be built, or fails on an image, or does something else."""
    spec = networks.NETWORKS[name]

    def restored() -> tuple[int, ...]:
        section = spec.build(num_channel, scale)
        section |= {key: value for key, value in SMALL.items() if key in section}
        net = ARCH_REGISTRY.get(section.pop("type"))(**section)
        with torch.no_grad():
            return tuple(net(torch.zeros(1, num_channel, 8, 8)).shape)

    if networks.unfit(name, num_channel, scale) is None:
        assert restored() == (1, num_channel, 8 * scale, 8 * scale)
        return
    with pytest.raises(UserError, match=f"network: {name}"):
        networks.network_section(name, num_channel, scale)
    try:
        shape = restored()
    except (ValueError, RuntimeError, AttributeError, UnboundLocalError):
        return
    assert shape != (1, num_channel, 8 * scale, 8 * scale)


# A sixth task


@dataclass(frozen=True)
class Posterize:
    """Few grey levels: a degradation that no recipe has heard of."""

    steps: int
    dither: float = 1e-3
    level = "steps"
    scale = 1
    margin = 0

    def __post_init__(self) -> None:
        if not 2 <= self.steps <= 64:
            raise UserError(f"steps is {self.steps}, must be from 2 to 64")

    def grid(self, num_channel: int) -> int:  # noqa: ARG002
        return 1

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:  # noqa: ARG002
        return (img // (256 // self.steps) * (256 // self.steps)).astype(np.uint8)


ROW = Task(
    name="poster",
    tag="Poster",
    title="posters, {level:g} steps",
    input="RGB image with {level:g} steps of each channel",
    channels="rgb",
    degradation="posterize",
    level="steps",
    level_tag="n",
    levels=(4, 8),
    sets=("Kodak24", "Classic5", "LIVE1"),
    loss="L1Loss",
    blind=Blind(2, 16, levels=(4, 16)),
)


@pytest.fixture
def sixth(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setitem(DEGRADATIONS, "posterize", Posterize)
    add_task(ROW)
    yield
    del TASKS["poster"]


@pytest.mark.usefixtures("sixth")
def test_a_sixth_task_has_its_files() -> None:
    files = {file.path: file for file in shipped_files() if "Poster" in file.path}
    sizes = {"train_RNAN_Poster_blind", "small/train_RNAN_small_Poster_blind"}
    sizes |= {f"small/train_RNAN_small_Poster_n{level}" for level in (4, 8)}
    compared = {f"compare/train_{name}_Poster_n4" for name in ("EDSR", "MSRResNetX1", "RCAN", "RIDNet", "SwinIR")}
    papers = {f"{kind}_RNAN_Poster_n{level}" for kind in ("train", "test") for level in (4, 8)}
    assert set(files) == {f"{name}.yml" for name in sizes | compared | papers}
    opt = files["train_RNAN_Poster_n8.yml"].options
    assert opt["datasets"]["train"]["degradation"] == {"type": "posterize", "steps": 8, "dither": 1e-3}
    assert [opt["datasets"][phase]["name"] for phase in ("val", "val_2")] == ["Kodak24", "LIVE1"]  # Classic5 is grey
    assert opt["train"]["pixel_opt"]["type"] == "L1Loss"
    assert yaml.safe_load(files["train_RNAN_Poster_n8.yml"].text) == opt
    assert "Posters, 8 steps" in files["train_RNAN_Poster_n8.yml"].text
    blind = files["train_RNAN_Poster_blind.yml"].options["datasets"]
    assert (blind["train"]["degradation"]["steps"], blind["val"]["degradation"]["steps"]) == ([2, 16], [4, 16])
    chain = build_chain(blind["train"]["degradation"], "x")
    drawn = {getattr(fixed(chain, np.random.default_rng(n))[0], "steps") for n in range(99)}  # noqa: B009 - no protocol has it
    assert drawn == set(range(2, 17))  # whole, although it isn't called quality


@pytest.mark.usefixtures("sixth")
@pytest.mark.parametrize(
    "flags",
    [
        "--level 7",
        "--level 7 --test",
        "--level 7 --network RCAN",
        "--level 7 --size small",
        "--blind",
        "--blind --test",
    ],
)
def test_a_sixth_tasks_file_is_printed_and_passes_the_checks(
    flags: str, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["options", "--task", "poster", *flags.split()]) == 0
    opt = check_printed_options(capsys.readouterr().out)
    levels = [entry["degradation"]["steps"] for phase, entry in opt["datasets"].items() if phase != "train"]
    assert set(levels) == ({4, 16} if "--blind" in flags else {7})


@pytest.mark.usefixtures("sixth")
@pytest.mark.parametrize(
    ("flags", "told"),
    [
        ("--level 65", "--level: steps is 65, must be from 2 to 64"),
        ("--level 7.5", "--level: 7.5 is not a whole number, as poster needs"),
        ("--level 4 --released", "--released: the authors released no weights for posters, 4 steps"),
    ],
)
def test_a_sixth_tasks_mistakes_are_one_line(flags: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["options", "--task", "poster", *flags.split()]) == 2
    assert capsys.readouterr().err == f"error: {told}\n"


@dataclass(frozen=True)
class Binning:
    """Every second pixel of a brightened image: shrinks, and yet its level is no scale."""

    gain: float
    level = "gain"
    scale = 2
    margin = 0

    def grid(self, num_channel: int) -> int:  # noqa: ARG002
        return 2

    def __call__(self, img: Image, rng: np.random.Generator) -> Degraded:  # noqa: ARG002
        return np.clip(img[::2, ::2] * self.gain, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("blind", [False, True])
def test_a_task_that_enlarges_without_a_level_of_scale(blind: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(DEGRADATIONS, "binning", Binning)
    row = Task(
        **{"name": "bin", "tag": "Bin", "title": "binned", "input": "grey image", "channels": "gray"},  # type: ignore[arg-type]
        degradation="binning",
        level="gain",
        sets=("Kodak24",),
        blind=Blind(1, 2, levels=(1.5,)),
    )
    monkeypatch.setitem(TASKS, "bin", row)
    opt = paper(inputs_of("bin", None if blind else 1.5, blind=blind)).options
    assert (opt["scale"], opt["network_g"]["upscale"], opt["datasets"]["train"]["gt_size"]) == (2, 2, 96)
    assert "img_mean" not in opt["network_g"]  # which has a value for each of three channels
    assert opt["val"]["metrics"]["psnr"] == {"type": "calculate_psnr", "crop_border": 0, "test_y_channel": False}
    _derive_paths(opt)
    for phase, entry in opt["datasets"].items():
        _, chain = parse_dataset(entry, phase)
        assert total_scale(chain) == 2
    assert list(_unlike_the_paper(opt)) == []


@pytest.mark.parametrize("levels", [(), (1,), (4, 17)])
def test_levels_to_look_at_are_within_the_range(levels: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="must be some from 2 to 16"):
        Blind(2, 16, levels=levels)


def test_a_range_needs_a_degradation_that_takes_one() -> None:
    values = {**{key: getattr(ROW, key) for key in ROW.__dataclass_fields__}, "degradation": "mosaic"}
    with pytest.raises(ValueError, match="blind training draws the argument 'steps'"):
        add_task(Task(**values))
    assert "poster" not in TASKS


@pytest.mark.parametrize(("level", "name"), [(30, "RNAN_F64G10P48L2N30"), (25, None), (70.0, "RNAN_F64G10P48L2N70")])
def test_weights_were_released_at_the_papers_levels_alone(level: float, name: str | None) -> None:
    assert TaskAtLevel("colordn", level).released == name
