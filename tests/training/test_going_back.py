"""Going back to an earlier state, past damaged ones, or to other best weights: what no longer counts is moved aside."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from conftest import Train, forget_logger, tiny_options
from tiny_runs import RUN, errors, state

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin's classes
from rnan_plugin import checkpoints
from rnan_plugin.__main__ import main
from rnan_plugin.checkpoints import read


def names(folder: Path) -> set[str]:
    return {file.name for file in folder.iterdir() if file.suffix in {".state", ".pth"}}


def same_weights(first: Path, second: Path) -> bool:
    one, other = read(first), read(second)
    keys = ("params", "params_ema")
    return all(torch.equal(value, other[key][name]) for key in keys for name, value in one[key].items())


def best_is_told_alike(iteration: int, metric: str = "psnr") -> dict[str, Any]:
    """The record of the best, which the file of the best has to agree with."""
    row: dict[str, Any] = state(iteration)["best"]["held-out"][metric]
    assert read(RUN / "models/net_g_best.pth")["best"] == {"set": "held-out", "metric": metric, **row}
    return row


@pytest.mark.parametrize("keep", [None, 1])
def test_what_comes_after_the_state_gone_back_to_no_longer_counts(
    train: Train, data: Path, keep: int | None, capfd: pytest.CaptureFixture[str]
) -> None:
    assert train(train__total_iter=8) == 0
    before = {file.name: read(file) for file in RUN.rglob("*.state")}
    assert best_is_told_alike(8)["iter"] > 2
    path, optimiser = tiny_options(data)["path"], tiny_options(data)["train"]["optim_g"]
    changes = {
        "path": path | {"resume_state": str(RUN / "training_states/2.state")},
        "train__optim_g": optimiser | {"lr": 0.5},
    }
    capfd.readouterr()
    assert train(logger__keep_last=keep, train__total_iter=5, **changes) == 0
    (folder,) = RUN.glob("after_2_archived_*")
    assert f"Going back to iteration 2: 7 later checkpoint(s) are now in {folder.absolute()}" in capfd.readouterr().err
    assert names(folder / "training_states") == {"4.state", "6.state", "8.state"}
    assert names(folder / "models") == {"net_g_4.pth", "net_g_6.pth", "net_g_8.pth", "net_g_best.pth"}
    assert read(folder / "training_states/8.state")["best"] == before["8.state"]["best"]
    assert names(RUN / "training_states") == ({"5.state"} if keep else {"2.state", "4.state", "5.state"})
    assert best_is_told_alike(5)["iter"] == 2  # at such a rate nothing gets better
    if not keep:
        assert same_weights(RUN / "models/net_g_best.pth", RUN / "models/net_g_2.pth")
    assert train("--auto_resume", train__total_iter=6, train__optim_g=changes["train__optim_g"]) == 0
    assert "Resuming training from epoch: 0, iter: 5" in "".join(log.read_text("utf-8") for log in RUN.glob("*.log"))


@pytest.mark.parametrize("keep", [1, 2])
def test_what_is_made_after_a_damaged_state_was_passed_over_stays(
    train: Train, keep: int, capfd: pytest.CaptureFixture[str]
) -> None:
    """The damaged ones have the higher numbers; whole ones are not removed in their favour."""
    assert train(train__total_iter=4) == 0
    damaged = RUN / "models/net_g_4.pth"
    damaged.write_bytes(damaged.read_bytes()[:-1000] + bytes(1000))
    assert train("--auto_resume", train__total_iter=3, logger__keep_last=keep) == 0
    (folder,) = RUN.glob("after_2_archived_*")
    assert {"net_g_4.pth"} <= names(folder / "models")
    assert names(folder / "training_states") == {"4.state"}
    assert names(RUN / "training_states") == ({"3.state"} if keep == 1 else {"2.state", "3.state"})
    capfd.readouterr()
    assert train("--auto_resume", train__total_iter=4, logger__keep_last=keep) == 0
    assert "resume_state: " in (told := capfd.readouterr().err)
    assert "training_states/3.state" in told


def test_weights_whose_state_is_gone_cost_no_other_state_its_own(train: Train) -> None:
    assert train(train__total_iter=4) == 0
    (RUN / "training_states/4.state").unlink()
    assert train("--auto_resume", train__total_iter=3, logger__keep_last=1) == 0
    assert names(RUN / "training_states") == {"3.state"}
    assert {"net_g_3.pth", "net_g_4.pth"} <= names(RUN / "models")
    assert train("--auto_resume", train__total_iter=4, logger__keep_last=1) == 0
    assert names(RUN / "training_states") == {"4.state"}


def test_the_best_by_another_metric_takes_the_place_of_the_best(train: Train, data: Path) -> None:
    assert train(train__total_iter=4) == 0
    best_is_told_alike(4)
    optimiser = tiny_options(data)["train"]["optim_g"] | {"lr": 0.5}
    assert train("--auto_resume", train__total_iter=6, train__optim_g=optimiser, logger__save_best="ssim") == 0
    row = best_is_told_alike(6, "ssim")
    assert row["iter"] == 4
    assert same_weights(RUN / "models/net_g_best.pth", RUN / "models/net_g_4.pth")


def test_best_weights_of_an_earlier_version_are_taken_as_the_state_says(train: Train) -> None:
    assert train(train__total_iter=4) == 0
    file = RUN / "models/net_g_best.pth"
    checkpoints.save_checkpoint({key: value for key, value in read(file).items() if key != "best"}, file)
    before = file.read_bytes()
    assert train("--auto_resume", train__total_iter=4) == 0
    assert file.read_bytes() == before
    assert state(4)["best"]["held-out"]["psnr"]["iter"] > 0


def test_a_named_state_that_is_not_the_last_is_told_where_the_last_is_gone_on_from(
    train: Train, data: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    named = RUN / "training_states/2.state"
    path = tiny_options(data)["path"] | {"resume_state": str(named)}
    assert train() == 0
    capfd.readouterr()
    assert train("--auto_resume", path=path, train__total_iter=5) == 0
    assert f"warning: path.resume_state: {named} is passed over, --auto_resume goes on from " in capfd.readouterr().out
    assert not list(RUN.glob("after_*"))

    for file in (RUN / "training_states").iterdir():
        file.unlink()
    assert train("--auto_resume", path=path) == 2
    (line,) = errors(capfd)
    assert f"path.resume_state: {named}: no such state; check the path, or take the key out" in line
    assert (RUN / "models/net_g_5.pth").exists()


def test_to_go_on_and_to_begin_anew_exclude_each_other(train: Train, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        train("--archive", "--auto_resume")
    assert end.value.code == 2
    assert len(errors(capfd)) == 1
    assert not RUN.exists()


def test_a_test_keeps_no_best(train: Train) -> None:
    assert train(train__total_iter=1) == 0
    opt = yaml.safe_load(Path("tiny.yml").read_text(encoding="utf-8"))
    opt["path"] = {"pretrain_network_g": str(RUN / "models/net_g_1.pth")}
    opt["datasets"] = {"test": opt["datasets"]["val"]}
    Path("test.yml").write_text(yaml.safe_dump(opt), encoding="utf-8")
    forget_logger()
    assert main(["test", "-opt", "test.yml"]) == 0
    assert not list(Path("results").rglob("*.pth"))
