"""Training, validation, testing and resuming with the real toolbox, its own scripts, and real processes."""

from __future__ import annotations

import logging
import os
import re
import shutil
from pathlib import Path
from types import SimpleNamespace

import cv2
import pytest
import torch
from conftest import TINY, log_of, tiny_options, write_options
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnan_plugin.checkpoints import read
from rnan_plugin.training import loop as training


def latest_weights(folder):
    return torch.load(folder / "experiments/tiny/models/net_g_latest.pth", weights_only=True)


def test_stock_script_trains_validates_and_shows_it_in_tensorboard(enabled_env, data, tmp_path):
    """`python basicsr/train.py -opt …`: the toolbox's unmodified script, through the hook and the link."""
    enabled_env.plugin(tmp_path, "enable", "--link")
    write_options(tmp_path, tiny_options(data))
    enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml")

    assert set(latest_weights(tmp_path)) == {"params", "params_ema", "network_g"}
    assert len(re.findall(r"l_pix: \d", log_of(tmp_path))) == 4
    events = EventAccumulator(str(tmp_path / "tb_logger/tiny"), size_guidance={"images": 0}).Reload()
    assert {"losses/l_pix", "metrics/held-out/psnr", "metrics/held-out/ssim"} <= set(events.Tags()["scalars"])
    assert len(events.Scalars("losses/l_pix")) == 4
    panels = sorted(tag for tag in events.Tags()["images"] if tag.startswith("held-out/"))
    assert len(panels) == 2
    panel = events.Images(panels[0])[0]
    assert (panel.height, panel.width) == (45, 3 * 38)
    saved = tmp_path / "experiments/tiny/visualization/4/4_2.png"
    assert cv2.imread(str(saved), cv2.IMREAD_UNCHANGED).shape == (45, 38)  # grey, whole, odd size

    # Without the hook it does not even import, and with the data gone it says what to run.
    off = enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml", check=False, RNAN_PLUGIN_DISABLE="1")
    assert off.returncode != 0
    assert "RNAN" not in off.stdout + off.stderr


class Hostile:
    """Pickled, it makes a folder when it is read."""

    def __init__(self, witness):
        self.witness = witness

    def __reduce__(self):
        return os.mkdir, (str(self.witness),)


def test_stock_script_resumes_on_a_cpu_and_runs_nothing_that_a_state_holds(enabled_env, data, tmp_path):
    """Run as a script, its own function to resume is another than that of `import basicsr.train`."""
    enabled_env.plugin(tmp_path, "enable", "--link")
    opt = tiny_options(data, total_iter=2)
    write_options(tmp_path, opt)
    enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml")
    run, witness = tmp_path / "experiments/tiny", tmp_path / "witness"
    torch.save(
        {"epoch": 0, "iter": Hostile(witness), "optimizers": [], "schedulers": []}, run / "training_states/9.state"
    )
    shutil.copy(run / "models/net_g_2.pth", run / "models/net_g_9.pth")

    opt["train"]["total_iter"] = 4
    write_options(tmp_path, opt)
    resumed = enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml", "--auto_resume")
    assert "9.state: damaged, or holds more than tensors" in resumed.stdout
    assert "going on from" in resumed.stdout
    assert "Resuming training from epoch: 0, iter: 2" in resumed.stdout + resumed.stderr
    assert read(run / "training_states/4.state")["iter"] == 4

    (aside,) = run.glob("after_2_archived_*/training_states/9.state")
    aside.rename(run / "training_states/9.state")
    for state in ("2.state", "4.state"):
        (run / "training_states" / state).unlink()
    refused = enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml", "--auto_resume", check=False)
    assert refused.returncode == 2
    (line,) = [line for line in refused.stderr.splitlines() if line.startswith("error: ")]
    assert "no training state is whole" in line
    assert "Traceback" not in refused.stderr
    assert not witness.exists()


def test_stock_script_trains_as_ours_does(enabled_env, data, tmp_path):
    """From an option file inside the run itself, stopped by a signal, locked, and to the same bits."""
    enabled_env.plugin(tmp_path, "enable", "--link")
    write_options(tmp_path, tiny_options(data, total_iter=2))
    enabled_env.run(tmp_path, "basicsr/train.py", "-opt", "tiny.yml")
    inside = tmp_path / "experiments/tiny/tiny.yml"
    inside.write_text(inside.read_text(encoding="utf-8").replace("total_iter: 2", "total_iter: 4"), encoding="utf-8")
    enabled_env.run(tmp_path, "basicsr/train.py", "-opt", str(inside), "--auto_resume")
    assert "eta: -" not in "".join(log.read_text("utf-8") for log in inside.parent.glob("*.log"))

    ours = tmp_path / "ours"
    ours.mkdir()
    write_options(ours, tiny_options(data, total_iter=4))
    enabled_env.run(ours, "-m", "rnan_plugin", "train", "-opt", "tiny.yml")
    first, second = (latest_weights(folder)["params"] for folder in (tmp_path, ours))
    assert all(torch.equal(first[name], second[name]) for name in second)


def test_the_toolboxs_function_trains_too_and_returns(enabled_env, data, tmp_path):
    """What `from basicsr.train import train_pipeline` gives; a script of one's own goes on after it."""
    write_options(tmp_path, tiny_options(data))
    (tmp_path / "mine.py").write_text("import basicsr.train as t\nt.train_pipeline('.')\nprint('and on')\n", "utf-8")
    assert "and on" in enabled_env.run(tmp_path, "mine.py", "-opt", "tiny.yml").stdout
    assert latest_weights(tmp_path)["params"]
    wrong = enabled_env.run(tmp_path, "mine.py", "-opt", "missing.yml", check=False)
    assert (wrong.returncode, "and on" in wrong.stdout) == (2, False)


def test_stock_script_of_a_source_checkout(enabled_env, data, tmp_path):
    """A checkout on the path instead of the installed toolbox; results land in it, as the toolbox has it."""
    import basicsr

    checkout = tmp_path / "BasicSR"
    shutil.copytree(Path(basicsr.__file__).parent, checkout / "basicsr", ignore=shutil.ignore_patterns("__pycache__"))
    opt = tiny_options(data, total_iter=1)
    del opt["val"], opt["datasets"]["val"]
    write_options(tmp_path, opt)
    enabled_env.run(tmp_path, "BasicSR/basicsr/train.py", "-opt", "tiny.yml", PYTHONPATH=str(checkout))
    assert latest_weights(checkout)["params"]


def test_torchrun_with_the_stock_script_on_two_processes(enabled_env, data, tmp_path):
    enabled_env.plugin(tmp_path, "enable", "--link")
    write_options(tmp_path, tiny_options(data))
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    enabled_env.run(tmp_path, *torchrun, "basicsr/train.py", "-opt", "tiny.yml", "--launcher", "pytorch")
    log = log_of(tmp_path)
    assert re.search(r"Training statistics: \d+ images, batch 2 × 2", log)
    assert "Network: DistributedDataParallel - RNAN" in log
    assert len(re.findall(r"Validation held-out", log)) == 2
    assert latest_weights(tmp_path)["params"]


def test_launcher_resumes_on_the_cpu(hook_env, data, tmp_path):
    """Needs no hook; goes on at the iteration and learning rate where the first run ended."""
    schedule = {"type": "MultiStepLR", "milestones": [3], "gamma": 0.5}
    opt = tiny_options(data, total_iter=2, scheduler=schedule)
    write_options(tmp_path, opt)
    hook_env.plugin(tmp_path, "train", "-opt", "tiny.yml", "--local-rank=0")
    first = latest_weights(tmp_path)["params"]
    (old_log,) = (tmp_path / "experiments/tiny").glob("train_tiny_*.log")
    old_log.rename(tmp_path / "first.log")

    opt["train"]["total_iter"] = 4
    write_options(tmp_path, opt)
    hook_env.plugin(tmp_path, "train", "-opt", "tiny.yml", "--auto_resume")
    log = log_of(tmp_path)
    assert "Resuming training from epoch: 0, iter: 2" in log
    assert [int(value) for value in re.findall(r"iter: +(\d+), lr", log)] == [3, 4]
    assert re.findall(r"lr:\(([^,]*),", log)[-1] == "5.000e-04"
    resumed = torch.load(tmp_path / "experiments/tiny/models/net_g_4.pth", weights_only=True)["params"]
    assert any(not torch.equal(first[name], resumed[name]) for name in first)
    assert not list(tmp_path.glob("experiments/*_archived_*"))

    # A damaged state is passed over for the last whole one, and said so.
    state = tmp_path / "experiments/tiny/training_states/4.state"
    state.write_bytes(state.read_bytes()[:100])
    result = hook_env.plugin(tmp_path, "train", "-opt", "tiny.yml", "--auto_resume")
    assert "warning: going on from" in result.stdout
    assert "4.state: damaged" in result.stdout
    assert torch.load(state, weights_only=True)["iter"] == 4  # trained again

    # With none left it is one clear line.
    for damaged in state.parent.iterdir():
        damaged.write_bytes(damaged.read_bytes()[:-1000])
    result = hook_env.plugin(tmp_path, "train", "-opt", "tiny.yml", "--auto_resume", check=False)
    assert result.returncode == 2
    assert result.stderr.splitlines()[-1].startswith("error: ")
    assert "no training state is whole" in result.stderr
    assert "Traceback" not in result.stderr


def test_test_command(hook_env, data, tmp_path):
    """Restores a data set with given weights, writes images and metrics below the current folder."""
    from rnan_plugin.archs.rnan_arch import RNAN

    net = RNAN(**{key: value for key, value in TINY.items() if key != "type"})
    torch.save({"params": net.state_dict()}, tmp_path / "net.pth")
    opt = tiny_options(data)
    opt = {key: value for key, value in opt.items() if key not in {"train", "logger"}}
    opt["datasets"] = {"test": opt["datasets"]["val"]}
    opt["path"] = {"pretrain_network_g": "net.pth", "strict_load_g": True}
    opt["val"] = {"save_img": True, "suffix": None, "metrics": opt["val"]["metrics"]}
    write_options(tmp_path, opt)
    hook_env.plugin(tmp_path, "test", "-opt", "tiny.yml")
    (log,) = (tmp_path / "results/tiny").glob("*.log")
    assert re.search(r"# psnr: \d+\.\d+", log.read_text(encoding="utf-8"))
    images = (tmp_path / "results/tiny/visualization/held-out").iterdir()
    assert {file.name for file in images} == {"4_tiny.png", "5_tiny.png"}


@pytest.mark.parametrize(("data_seconds", "warned"), [(0.9, False), (1.1, True)])
def test_data_that_holds_the_training_up_is_told(data_seconds, warned, monkeypatch, caplog):
    """Above a tenth of the time of the steps since the last line of the log, here ten seconds."""
    monkeypatch.setattr(training, "get_root_logger", lambda: logging.getLogger("run"))
    logged = {}
    model = SimpleNamespace(get_current_learning_rate=lambda: [1e-4], get_current_log=lambda: {"l_pix": 1.0})
    run = SimpleNamespace(data_seconds=data_seconds, step_seconds=10 - data_seconds, steps=20, iteration=40)
    run.opt = {"datasets": {"train": {"batch_size_per_gpu": 4}}, "world_size": 2}
    run.model, run.writer, run.messages, run._epoch = model, None, logged.update, lambda: 0
    training._Run._log(run)
    assert (logged["time"], logged["samples_per_second"]) == (0.5, 16)
    assert logged["data_share"] == pytest.approx(data_seconds / 10)
    told = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert bool(told) == warned
    assert all("loading data took 11% of the time; raise num_worker_per_gpu" in line for line in told)
    assert (run.data_seconds, run.steps) == (0, 0)
