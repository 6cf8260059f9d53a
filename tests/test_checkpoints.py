"""Checkpoints: whole or not there, verified, the old ones removed, and nothing in them is executed."""

from __future__ import annotations

import os
import pickle
import random
import resource
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import yaml
from conftest import log_of, tiny_options, write_options

from rnan_plugin.__main__ import main
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.checkpoints import is_intact, read, save_checkpoint
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import load_network
from rnan_plugin.options.changes import changed_keys
from rnan_plugin.training.states import load_state, newest_state


def checkpoint(folder: Path, iteration: int) -> Path:
    """A training state and the weights that belong to it."""
    state = {"epoch": 0, "iter": iteration, "optimizers": [], "schedulers": []}
    for place in ("states", "models"):
        (folder / place).mkdir(exist_ok=True)
    save_checkpoint({"params": {"w": torch.rand(100, 100)}}, folder / f"models/net_g_{iteration}.pth")
    save_checkpoint(state, folder / f"states/{iteration}.state")
    return folder / f"states/{iteration}.state"


def flip_a_bit(path: Path) -> None:
    """In the first tensor, not in what only aligns it: versions of torch differ in where that lies."""
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        start = next(entry.header_offset for entry in archive.infolist() if "/data/" in entry.filename)
    lengths = (content[start + 26 : start + 28], content[start + 28 : start + 30])  # of the name, of the padding
    content[start + 30 + sum(int.from_bytes(length, "little") for length in lengths)] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("spoil", [flip_a_bit, lambda path: path.write_bytes(path.read_bytes()[:-200]), Path.unlink])
def test_damaged_weights_are_found_and_the_state_before_is_taken(spoil, tmp_path):
    checkpoint(tmp_path, 900)
    checkpoint(tmp_path, 1000)  # later by number, earlier by name
    weights = tmp_path / "models/net_g_1000.pth"
    assert is_intact(weights)
    spoil(weights)
    assert not is_intact(weights)
    path, state, problems = newest_state(tmp_path / "states", tmp_path / "models")
    assert (path.name, state["iter"]) == ("900.state", 900)
    assert "net_g_1000.pth" in problems[0]


@pytest.mark.parametrize(
    "weights",
    [
        {"params": {"w": torch.full((3,), torch.nan)}},
        {"params": {"w": torch.ones(3)}, "params_ema": {"w": torch.full((3,), torch.inf)}},
        {"params_ema": {}},
        {"params": {}},
        {"params": "x"},
        {"network_g": {}},
    ],
)
def test_a_state_whose_weights_hold_no_numbers_is_passed_over(weights, tmp_path):
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 9)
    save_checkpoint(weights, tmp_path / "models/net_g_9.pth")
    path, _, problems = newest_state(tmp_path / "states", tmp_path / "models")
    assert path.name == "8.state"
    assert "net_g_9.pth: " in problems[0]


def test_no_state_and_no_whole_state(tmp_path):
    (tmp_path / "states").mkdir()
    assert newest_state(tmp_path / "states", tmp_path / "models") is None
    (tmp_path / "states/5.state").write_bytes(b"")
    with pytest.raises(UserError, match="no training state is whole"):
        newest_state(tmp_path / "states", tmp_path / "models")


def test_foreign_file_is_no_training_state(tmp_path):
    torch.save({"params": {}}, tmp_path / "x.state")
    with pytest.raises(UserError, match=r"x\.state: not a readable training state"):
        load_state(tmp_path / "x.state", tmp_path)
    torch.save([1], tmp_path / "x.state")
    with pytest.raises(UserError, match=r"not a checkpoint, it holds a list"):
        load_state(tmp_path / "x.state", tmp_path)


class Hostile:
    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_pickled_code_in_a_checkpoint_never_runs(tmp_path):
    path, witness = tmp_path / "x.state", tmp_path / "witness"
    torch.save({"iter": Hostile(witness)}, path)
    with pytest.raises(UserError, match=r"x\.state: damaged, or holds more than tensors"):
        read(path)
    assert not witness.exists()
    pickle.loads(pickle.dumps(Hostile(witness)))
    assert witness.exists()  # it would have


HOSTILE_YAML = "\nextra: !!python/object/apply:os.mkdir [witness]\n"


@pytest.mark.parametrize("arguments", [["-m", "rnan_plugin", "train"], ["basicsr/train.py"]])
def test_nothing_in_options_is_executed(enabled_env, data, tmp_path, arguments):
    enabled_env.plugin(tmp_path, "enable", "--link")
    write_options(tmp_path, tiny_options(data))
    (tmp_path / "hostile.yml").write_text((tmp_path / "tiny.yml").read_text() + HOSTILE_YAML)
    result = enabled_env.run(tmp_path, *arguments, "-opt", "hostile.yml", check=False)
    assert result.returncode == 2
    assert "error: hostile.yml: not valid YAML" in result.stderr

    for entry in ('name=[__import__("os").mkdir("witness")]', 'name"]=__import__("os").mkdir("witness");opt["name=1'):
        result = enabled_env.run(tmp_path, *arguments, "-opt", "tiny.yml", "--force_yml", entry, check=False)
        assert result.returncode == 2
        assert "error: " in result.stderr
        assert "Traceback" not in result.stderr
    assert not (tmp_path / "witness").exists()
    assert not (tmp_path / "experiments").exists()


def test_force_yml_changes_values(data, tmp_path):
    opt = tiny_options(data)
    del opt["val"], opt["datasets"]["val"]
    write_options(tmp_path, opt)
    forced = ["train:total_iter=2", "train:optim_g:lr=5e-4", "name=forced", "datasets:train:use_hflip=false"]
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml", "--force_yml", *forced]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    state = torch.load(tmp_path / "experiments/forced/training_states/2.state", weights_only=True)
    assert state["options"]["train"]["optim_g"]["lr"] == 5e-4
    assert state["options"]["datasets"]["train"]["use_hflip"] is False
    command[-1] = "train:total_itre=3"
    result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
    assert result.returncode == 2
    assert "did you mean 'total_iter'?" in result.stderr


def test_last_and_best_checkpoints_are_kept(data, tmp_path):
    opt = tiny_options(data, total_iter=8)
    opt["logger"] |= {"keep_last": 2, "save_best": "psnr"}
    write_options(tmp_path, opt)
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    run = tmp_path / "experiments/tiny"
    assert {file.name for file in (run / "training_states").iterdir()} == {"6.state", "8.state"}
    assert {file.name for file in (run / "models").iterdir()} == {
        "net_g_6.pth",
        "net_g_8.pth",
        "net_g_best.pth",
        "net_g_latest.pth",
    }
    best = torch.load(run / "training_states/8.state", weights_only=True)["best"]["held-out"]["psnr"]
    assert f"Best: {best['val']:.4f} @ {best['iter']} iter" in log_of(tmp_path)
    assert set(read(run / "models/net_g_best.pth")) == {"params", "params_ema", "network_g", "best"}


def small_files():
    """Let no file grow above 20 kB, as if the disk were full."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))


def test_full_disk_leaves_nothing_half_written(tmp_path):
    code = f"""
import torch
from pathlib import Path
from rnan_plugin.checkpoints import save_checkpoint
try:
    save_checkpoint({{"w": torch.rand(100, 100)}}, Path({str(tmp_path / "x.pth")!r}))
except ValueError as error:
    print(error)
"""
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, check=False, capture_output=True, text=True, preexec_fn=small_files)
    assert "x.pth: can't be written (" in result.stdout, result.stderr
    assert not list(tmp_path.iterdir())


def test_changed_keys_are_told_one_by_one():
    before = {"train": {"lr": 1, "gone": 2}, "name": "x", "betas": [1, 2]}
    after = {"train": {"lr": 3, "new": 4}, "name": "x", "betas": [1, 2], "path": {}}
    assert changed_keys(before, after) == [
        "train.lr: 1 -> 3",
        "train.gone: 2 -> (not set)",
        "train.new: (not set) -> 4",
    ]
    added = {"deterministic": True, "val": {"val_freq": 2, "metrics": {"psnr": {"type": "calculate_psnr"}}}}
    assert changed_keys(before, before | added | {"num_gpu": 0, "rank": 0}) == [
        "deterministic: (not set) -> True",
        "val.val_freq: (not set) -> 2",
        "val.metrics.psnr.type: (not set) -> 'calculate_psnr'",
    ]
    assert changed_keys(before | added, before)[0] == "deterministic: True -> (not set)"
    assert changed_keys({}, before) == []


def test_changed_keys_of_an_alias_bomb_are_few_and_short():
    for leaf in (["x"] * 9, {"x": 1}):
        bomb = leaf
        for _ in range(12):
            bomb = [bomb] * 9 if isinstance(bomb, list) else {f"{number}": bomb for number in range(9)}
        lines = changed_keys({"name": bomb, "train": {"lr": bomb}}, {"name": "x", "train": {"lr": 1}})
        assert len(lines) <= 21
        assert all(len(line) < 500 for line in lines)
    assert lines[-1].endswith(" more")


def test_state_of_the_stock_loop_serves_the_plugins(enabled_env, data, tmp_path):
    """A training begun with the toolbox's script goes on with the plugin's command."""
    enabled_env.plugin(tmp_path, "enable", "--link")
    opt = tiny_options(data, total_iter=2)
    write_options(tmp_path, opt)
    enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml")
    opt["train"]["total_iter"] = 4
    write_options(tmp_path, opt)
    result = enabled_env.plugin(tmp_path, "train", "-opt", "tiny.yml", "--auto_resume")
    assert "changed since iteration 2: train.total_iter: 2 -> 4" in result.stdout
    assert yaml.safe_load((tmp_path / "experiments/tiny/tiny.yml").read_text())["train"]["total_iter"] == 4
    assert (tmp_path / "experiments/tiny/training_states/4.state").exists()


def tensors_of(content: object) -> list[torch.Tensor]:
    """All tensors of a checkpoint, at any depth."""
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, dict) else content if isinstance(content, list) else []
    return [tensor for part in parts for tensor in tensors_of(part)]


def flips(path: Path, count: int, seed: int):
    """Flip one bit after another at random, each in the whole file; yields after each flip."""
    whole = path.read_bytes()
    rng = random.Random(seed)
    for _ in range(count):
        spoilt = bytearray(whole)
        place = rng.randrange(len(whole))
        spoilt[place] ^= 1 << rng.randrange(8)
        path.write_bytes(spoilt)
        yield place
    path.write_bytes(whole)


def same_tensors(first: object, second: object) -> bool:
    pairs = list(zip(tensors_of(first), tensors_of(second), strict=True))
    return bool(pairs) and all(torch.equal(one, other) for one, other in pairs)


@pytest.mark.parametrize("seed", [0, 1])
def test_no_flipped_bit_of_weights_goes_unnoticed(seed, tmp_path):
    """What is read in spite of a flip, as in the filling between records, is what was written."""
    net = RNAN(num_in_ch=1, num_out_ch=1, num_feat=4, num_rab=1, num_rnab=1)
    network = {"type": "RNAN", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
    path = tmp_path / "net.pth"
    save_checkpoint({"params": net.state_dict(), "network_g": network}, path)
    told = []
    for _ in flips(path, 100, seed):
        try:
            loaded = load_network(None, str(path)).net
        except UserError as error:
            told.append(str(error))
        else:
            assert same_tensors(loaded.state_dict(), net.state_dict())
    assert len(told) > 50
    assert all(str(path) in line and "\n" not in line for line in told)


def test_restore_from_damaged_weights_is_one_line(tmp_path, capfd):
    net = RNAN(num_in_ch=1, num_out_ch=1, num_feat=4, num_rab=1, num_rnab=1)
    network = {"type": "RNAN", "num_in_ch": 1, "num_out_ch": 1, "num_feat": 4, "num_rab": 1, "num_rnab": 1}
    path, image = tmp_path / "net.pth", tmp_path / "x.png"
    cv2.imwrite(str(image), np.zeros((8, 8), np.uint8))
    infinite = {name: torch.full_like(value, float("inf")) for name, value in net.state_dict().items()}
    for weights, fragment in ((net.state_dict(), "a checksum is wrong"), (infinite, "holds NaN or infinite values")):
        save_checkpoint({"params": weights, "network_g": network}, path)
        if weights is not infinite:
            flip_a_bit(path)
        arguments = ["restore", str(image), str(tmp_path / "out.png"), "--weights", str(path)]
        assert main(arguments) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"error: {path}: ")
        assert fragment in line
        assert not (tmp_path / "out.png").exists()


def test_flipped_bit_of_a_state_or_its_weights_costs_that_state_alone(tmp_path):
    expected = {}
    for iteration in (8, 9):
        path = checkpoint(tmp_path, iteration)
        moments = {0: {"step": torch.tensor(1.0), "exp_avg": torch.rand(20)}}
        state = {"epoch": 0, "iter": iteration, "optimizers": [{"state": moments}], "schedulers": []}
        save_checkpoint(state, path)
        expected[iteration] = state
    passed_over = 0
    for file in (tmp_path / "states/9.state", tmp_path / "models/net_g_9.pth"):
        for _ in flips(file, 50, 2):
            path, state, problems = newest_state(tmp_path / "states", tmp_path / "models")
            assert path.name == f"{state['iter']}.state"
            assert bool(problems) == (state["iter"] == 8)
            assert same_tensors(state, expected[state["iter"]])
            passed_over += state["iter"] == 8
    assert passed_over > 50


CRAFTED: dict[str, list[Any]] = {
    "iter": ["9", 9.0, True, None, -9, 10**40, [9]],
    "epoch": ["0", None, 10**40],
    "optimizers": [None, {}, [1], "x"],
    "schedulers": [None, 3, [None]],
    "scaler": [3, [1]],
    "draws": ["9", -1, 1.5, 10**40],
    "validated": ["9", None],
    "skipped_steps": ["0", -1, 2.5],
    "best": [
        *([], {"set": 3}, {"set": {"psnr": 3}}, {"set": {"psnr": {"better": "higher"}}}),
        {"set": {"psnr": {"better": 1, "val": 1.0, "iter": 3}}},
        {"set": {"psnr": {"better": "higher", "val": "1", "iter": 3}}},
    ],
    "options": [3, [], {1: 2}, {"manual_seed": "x"}, {"manual_seed": 10**30}, {"train": torch.zeros(3)}],
}


@pytest.mark.parametrize("key", CRAFTED)
def test_state_with_a_part_of_another_kind_is_passed_over(key, tmp_path):
    checkpoint(tmp_path, 8)
    path = checkpoint(tmp_path, 9)
    whole = read(path)
    for value in CRAFTED[key]:
        save_checkpoint({**whole, key: value}, path)
        taken, _, problems = newest_state(tmp_path / "states", tmp_path / "models")
        assert taken.name == "8.state", value
        assert problems[0].startswith(f"{path}: not a readable training state, its '{key}' is ")
        assert len(problems[0]) < 400


def test_state_under_another_iterations_name_is_passed_over(tmp_path):
    checkpoint(tmp_path, 8)
    path = checkpoint(tmp_path, 7)
    path.rename(path.with_name("9.state"))
    shutil.copy(tmp_path / "models/net_g_7.pth", tmp_path / "models/net_g_9.pth")
    taken, _, problems = newest_state(tmp_path / "states", tmp_path / "models")
    assert taken.name == "8.state"
    assert "9.state: is the state of iteration 7" in problems[0]


def test_names_that_are_no_numbers_are_no_states(tmp_path):
    checkpoint(tmp_path, 8)
    for name in ("²5.state", "٣.state", "x.state", ".state", "9_.state", "-9.state", "1e9.state"):
        shutil.copy(tmp_path / "states/8.state", tmp_path / "states" / name)
    (tmp_path / "states/99.state").mkdir()
    taken, _, problems = newest_state(tmp_path / "states", tmp_path / "models")
    assert taken.name == "8.state"
    assert all("99.state: is a folder, not a file" in problem for problem in problems)


@pytest.mark.parametrize(
    "error", [NotImplementedError, UnicodeDecodeError, RecursionError, MemoryError, AssertionError]
)
def test_whatever_a_damaged_state_makes_its_reader_raise_it_is_passed_over(error, monkeypatch, tmp_path):
    checkpoint(tmp_path, 8)
    checkpoint(tmp_path, 9)
    load = torch.load

    def fails(path, **arguments):
        if Path(path).name == "9.state":
            raise error(*(("utf-8", b"", 0, 1, "x") if error is UnicodeDecodeError else ()))
        return load(path, **arguments)

    monkeypatch.setattr(torch, "load", fails)
    assert newest_state(tmp_path / "states", tmp_path / "models")[0].name == "8.state"
