"""Trainings that are killed, stopped, resumed, restarted: real processes, and the same bits at the end."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import requests
import torch
import yaml
from conftest import tiny_options, write_options
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from rnan_plugin.__main__ import main
from rnan_plugin.training.endings import asking

ITERATIONS = 60
KILLS = 20


def options(folder, **train):
    """The tiny options with two workers, a set whose size no batch divides, and a schedule that moves each step."""
    opt = tiny_options(folder, total_iter=ITERATIONS, **train)
    schedule = {"type": "CosineAnnealingRestartLR", "periods": [ITERATIONS], "eta_min": 1e-5}
    opt["train"] |= {"scheduler": schedule, "warmup_iter": 5}
    opt["datasets"]["train"] |= {"num_worker_per_gpu": 2, "batch_size_per_gpu": 3}
    opt["val"] |= {"val_freq": 10, "save_img": False}
    opt["logger"] |= {"print_freq": 1, "save_checkpoint_freq": 3}
    return opt


def run(folder, *arguments, check=True, **popen):
    """One of the plugin's trainings, as a process."""
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml", *arguments]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=300, **popen)
    assert not check or result.returncode == 0, result.stdout + result.stderr
    return result


@pytest.fixture(scope="module")
def uninterrupted(data, tmp_path_factory):
    """A training that nobody disturbs."""
    folder = tmp_path_factory.mktemp("uninterrupted")
    write_options(folder, options(data))
    run(folder)
    return folder


def end_of(folder):
    """Weights, training state and logged losses of a finished training."""
    run_folder = folder / "experiments/tiny"
    weights = torch.load(run_folder / f"models/net_g_{ITERATIONS}.pth", weights_only=True)
    state = torch.load(run_folder / f"training_states/{ITERATIONS}.state", weights_only=True)
    events = EventAccumulator(str(folder / "tb_logger/tiny")).Reload()
    losses = {event.step: event.value for event in events.Scalars("losses/l_pix")}
    metrics = {event.step: event.value for event in events.Scalars("metrics/held-out/psnr")}
    return weights, state["optimizers"], state["schedulers"], state["best"], losses, metrics


def assert_same(first, second):
    """Equal to the last bit, at any depth."""
    assert type(first) is type(second)
    if isinstance(first, torch.Tensor):
        assert torch.equal(first, second)
    elif isinstance(first, dict):
        assert first.keys() == second.keys()
        for key in first:
            assert_same(first[key], second[key])
    elif isinstance(first, (list, tuple)):
        assert len(first) == len(second)
        for one, other in zip(first, second, strict=True):
            assert_same(one, other)
    else:
        assert first == second


def test_killed_twenty_times_it_ends_with_the_same_bits(uninterrupted, data, tmp_path):
    write_options(tmp_path, options(data))
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [sys.executable, str(script), "tiny.yml", str(ITERATIONS), str(KILLS), "1"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=900)
    assert result.returncode == 0, result.stdout[-3000:] + result.stderr[-3000:]
    assert result.stdout.count("killed, ") == KILLS
    assert_same(end_of(tmp_path), end_of(uninterrupted))
    assert not list((tmp_path / "experiments").glob("*_archived_*"))
    assert not list((tmp_path / "experiments").rglob("*partial*"))


def wait_for(condition, process, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 129)])
def test_stop_signal_saves_and_leaves_with_its_own_status(uninterrupted, data, tmp_path, number, status):
    opt = options(data)
    opt["logger"] |= {"save_checkpoint_freq": 1000}  # nothing is saved unless the signal does it
    write_options(tmp_path, opt)
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml"]
    log = tmp_path / "out.txt"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=out, stderr=out, start_new_session=True)
        wait_for(lambda: "iter:       3," in log.read_text(), process)
        os.killpg(process.pid, number)  # as a terminal or a job system does: the data workers too
        assert process.wait(120) == status, log.read_text()
    (state,) = (tmp_path / "experiments/tiny/training_states").iterdir()
    assert 3 <= int(state.stem) < ITERATIONS
    assert "and saved; --auto_resume goes on from here" in log.read_text()

    # Started without --auto_resume it refuses to move the run aside; with it, it ends as if nothing had happened.
    refused = run(tmp_path, check=False)
    assert refused.returncode == 2
    assert "resume it with --auto_resume, or add --archive" in refused.stderr
    write_options(tmp_path, options(data))
    resumed = run(tmp_path, "--auto_resume")
    assert f"changed since iteration {state.stem}: logger.save_checkpoint_freq: 1000 -> 3" in resumed.stdout
    assert_same(end_of(tmp_path)[:3], end_of(uninterrupted)[:3])

    opt["train"]["total_iter"] = 1
    write_options(tmp_path, opt)
    run(tmp_path, "--archive")
    assert list(tmp_path.glob("experiments/tiny_archived_*"))


def test_what_nohup_made_deaf_stays_deaf():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        assert set(asking()) == {signal.SIGTERM, signal.SIGINT}
    finally:
        signal.signal(signal.SIGHUP, before)
    assert set(asking()) == {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def test_run_is_found_from_any_folder(data, tmp_path):
    opt = options(data)
    opt["train"]["total_iter"] = 3
    (tmp_path / "project/options").mkdir(parents=True)
    write_options(tmp_path / "project", opt)
    run(tmp_path / "project")
    opt["train"]["total_iter"] = 5
    write_options(tmp_path / "project/options", opt)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    command = [sys.executable, "-m", "rnan_plugin", "train", "--auto_resume", "-opt", "../project/options/tiny.yml"]
    result = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    assert "Resuming training from epoch: 0, iter: 3" in result.stdout + result.stderr
    assert (tmp_path / "project/experiments/tiny/models/net_g_5.pth").exists()
    assert not list(elsewhere.iterdir())


@pytest.fixture(scope="module")
def global_batch(data):
    """Options whose batch of four two processes share."""

    def make(per_process):
        opt = options(data)
        opt["train"]["total_iter"] = 6
        opt["datasets"]["train"]["batch_size_per_gpu"] = per_process
        opt["val"]["val_freq"] = 3
        return opt

    return make


def torchrun(folder, *arguments, processes=2):
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc_per_node={processes}", "--standalone"]
    command += [*arguments, "-m", "rnan_plugin", "train", "-opt", "tiny.yml", "--launcher", "pytorch"]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def losses_of(folder):
    events = EventAccumulator(str(folder / "tb_logger/tiny")).Reload()
    return [event.value for event in events.Scalars("losses/l_pix")]


def with_torchrun(folder):
    process = torchrun(folder)
    return process.communicate(timeout=300)[0], process.returncode


def with_slurm(folder):
    """Two processes with the variables that srun gives them; a stand-in tells the hosts of the job."""
    scontrol = folder / "bin/scontrol"
    scontrol.parent.mkdir()
    scontrol.write_text('#!/bin/sh\n[ "$*" = "show hostnames here[1-2]" ] && printf "localhost\\nelsewhere\\n"\n')
    scontrol.chmod(0o755)
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "rnan_plugin", "train", "-opt", "tiny.yml", "--launcher", "slurm"]
    command += ["--force_yml", f"dist_params:port={port}"]
    processes = []
    for rank in ("0", "1"):
        slurm = {"SLURM_PROCID": rank, "SLURM_LOCALID": rank, "SLURM_NTASKS": "2", "SLURM_JOB_NODELIST": "here[1-2]"}
        env = os.environ | slurm | {"PATH": f"{scontrol.parent}:{os.environ['PATH']}"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        processes.append(subprocess.Popen(command, cwd=folder, env=env, **pipes))
    outputs = [process.communicate(timeout=300)[0] for process in processes]
    return "\n".join(outputs), max(process.returncode for process in processes)


@pytest.mark.parametrize("launch", [with_torchrun, with_slurm])
def test_same_global_batch_on_one_and_on_two_processes(global_batch, tmp_path, launch):
    """The mean of two half batches' gradients is the whole batch's but for the order of float32 sums."""
    folders = tmp_path / "one", tmp_path / "two"
    for folder, per_process in zip(folders, (4, 2), strict=True):
        folder.mkdir()
        write_options(folder, global_batch(per_process))
    run(folders[0])
    output, status = launch(folders[1])
    assert status == 0, output
    torch.testing.assert_close(losses_of(folders[1]), losses_of(folders[0]), rtol=1e-5, atol=0)
    for folder in folders:
        state = torch.load(folder / "experiments/tiny/training_states/6.state", weights_only=True)
        assert state["draws"] == 24  # of all processes together
    one, two = (torch.load(folder / "experiments/tiny/models/net_g_6.pth", weights_only=True) for folder in folders)
    for name, value in one["params"].items():
        # Adam divides a gradient by its own size: where that is next to nothing, rounding decides on a whole step.
        torch.testing.assert_close(two["params"][name], value, rtol=1e-4, atol=6e-4)


def test_slurm_launcher_outside_of_slurm_is_one_line(global_batch, tmp_path):
    write_options(tmp_path, global_batch(2))
    result = run(tmp_path, "--launcher", "slurm", check=False)
    assert result.returncode == 2
    assert result.stderr == "error: --launcher slurm: SLURM_PROCID is not set; start the command with srun\n"


VALIDATE = """
import sys, torch
sys.argv = ["train", "-opt", "tiny.yml", "--launcher", sys.argv[1]]
import rnan_plugin.training.connect
from rnan_plugin.training.launcher import leave_processes, parse_options
from rnan_plugin.toolbox.api import build_dataloader, build_dataset, build_model
opt, _ = parse_options(".", True)
torch.manual_seed(5)
model = build_model(opt)
loader = build_dataloader(build_dataset(opt["datasets"]["val"]), opt["datasets"]["val"])
model.validation(loader, 1, None, False)
open(f"metrics{opt['rank']}.txt", "w").write(repr(model.metric_results))
del model
leave_processes()
"""


def test_validation_is_shared_and_its_metrics_are_those_of_one_process(global_batch, tmp_path):
    opt = global_batch(2)
    opt["datasets"]["val"]["dataroot_gt"] = opt["datasets"]["train"]["dataroot_gt"]  # more images than processes
    opt["datasets"]["val"]["degradation"] = {"type": "awgn", "sigma": 30}
    write_options(tmp_path, opt)
    (tmp_path / "validate.py").write_text(VALIDATE)
    subprocess.run([sys.executable, "validate.py", "none"], cwd=tmp_path, check=True, capture_output=True)
    alone = (tmp_path / "metrics0.txt").read_text()
    two = ["-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "validate.py", "pytorch"]
    result = subprocess.run([sys.executable, *two], cwd=tmp_path, check=False, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert (tmp_path / "metrics0.txt").read_text() == alone
    assert (tmp_path / "metrics1.txt").read_text() == alone


COUNTED = """
import os, sys
from rnan_plugin.__main__ import main
from rnan_plugin.data.sampler import SeededDraws
take = SeededDraws.__getitem__

def counted(self, draw):
    with open(f"drawn{os.environ.get('RANK', 'alone')}.txt", "a") as file:
        print(*draw, file=file)
    return take(self, draw)

SeededDraws.__getitem__ = counted
sys.exit(main(["train", "-opt", "tiny.yml", "--auto_resume", *sys.argv[1:]]))
"""


def test_no_draw_is_repeated_or_skipped_when_processes_and_batch_change(data, tmp_path):
    """Two processes, then one, then two again with another batch: the samples are those of one undisturbed run."""
    (tmp_path / "counted.py").write_text(COUNTED, encoding="utf-8")
    two = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone", "counted.py"]
    stages = [(2, 3, 4), (1, 1, 9), (2, 2, 12)]  # processes, batch of each, last iteration
    for processes, batch, last in stages:
        opt = options(data)
        opt["train"]["total_iter"] = last
        opt["datasets"]["train"] |= {"num_worker_per_gpu": 0, "batch_size_per_gpu": batch}
        write_options(tmp_path, opt)
        command = [*two, "--launcher", "pytorch"] if processes == 2 else [sys.executable, "counted.py"]
        result = subprocess.run(command, cwd=tmp_path, check=False, capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
    lines = [line for file in tmp_path.glob("drawn*.txt") for line in file.read_text("ascii").splitlines()]
    images, numbers = zip(*(map(int, line.split()) for line in lines), strict=True)
    count = 2 * 3 * 4 + 5 + 2 * 2 * 3
    assert sorted(numbers) == list(range(count))
    assert {images.count(image) for image in range(4)} == {10, 11}  # each pass has every image once
    state = tmp_path / "experiments/tiny/training_states/12.state"
    assert torch.load(state, weights_only=True)["draws"] == count


UNREADABLE = """
import os, signal, sys
from rnan_plugin.__main__ import main
from rnan_plugin.data.sampler import SeededDraws
from rnan_plugin.errors import UserError
take, killed = SeededDraws.__getitem__, "killed" in sys.argv

def damaged(self, draw):
    if draw[1] == 13:  # of the third iteration, of the second process
        assert os.environ["RANK"] == "1"
        if killed:
            os.kill(os.getpid(), signal.SIGKILL)
        raise UserError("a.png: cut short")
    return take(self, draw)

SeededDraws.__getitem__ = damaged
sys.exit(main(["train", "-opt", "tiny.yml", "--launcher", "pytorch"]))
"""


@pytest.mark.parametrize("end", ["unreadable", "killed"])
def test_another_process_that_ends_costs_no_iteration(data, tmp_path, end):
    opt = options(data)
    opt["datasets"]["train"] |= {"num_worker_per_gpu": 0}
    opt["logger"] |= {"save_checkpoint_freq": 1000}
    write_options(tmp_path, opt)
    (tmp_path / "unreadable.py").write_text(UNREADABLE, encoding="utf-8")
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", "--standalone"]
    result = subprocess.run(
        [*command, "unreadable.py", end], cwd=tmp_path, check=False, capture_output=True, text=True, timeout=300
    )
    assert result.returncode != 0
    told = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert told == (["error: a.png: cut short"] if end == "unreadable" else [])
    assert [file.name for file in (tmp_path / "experiments/tiny/training_states").iterdir()] == ["2.state"]


def test_torchrun_restarts_a_killed_process_and_the_run_goes_on(global_batch, tmp_path):
    opt = global_batch(2)
    opt["train"]["total_iter"] = ITERATIONS
    write_options(tmp_path, opt)
    process = torchrun(tmp_path, "--max-restarts=1")
    wait_for(lambda: list(tmp_path.glob("experiments/tiny/training_states/[0-9]*.state")), process)
    os.kill(training_processes(process.pid)[0], signal.SIGKILL)
    output = process.communicate(timeout=300)[0]
    assert process.returncode == 0, output
    assert re.search(r"Resuming training from epoch: \d+, iter: \d+", output), output
    assert (tmp_path / f"experiments/tiny/models/net_g_{ITERATIONS}.pth").exists()


def training_processes(torchrun_pid):
    """The processes that torchrun has started."""
    found = []
    for task in Path(f"/proc/{torchrun_pid}/task").iterdir():
        for child in (task / "children").read_text(encoding="ascii").split():
            if b"rnan_plugin" in Path("/proc", child, "cmdline").read_bytes():
                found.append(int(child))
    return found


def test_finished_run_stays_as_it_is(uninterrupted):
    before = end_of(uninterrupted)
    run(uninterrupted, "--auto_resume")
    assert_same(end_of(uninterrupted)[:2], before[:2])


def test_interruption_by_the_keyboard_before_training_is_no_traceback(monkeypatch):
    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("rnan_plugin.commands.train.launch", interrupted)
    assert main(["train", "-opt", "x.yml"]) == 130


def test_tensorboard_has_what_one_watches(uninterrupted):
    events = EventAccumulator(str(uninterrupted / "tb_logger/tiny")).Reload()
    tags = events.Tags()
    watched = {"losses/l_pix", "grad_norm", "skipped_steps", "learning_rate", "samples_per_second", "data_share"}
    assert watched | {"memory_mib", "seconds_per_step", "metrics/held-out/psnr"} <= set(tags["scalars"])
    assert "options/text_summary" in tags["tensors"]
    shown = events.Tensors("options/text_summary")[0].tensor_proto.string_val[0].decode()
    assert f"total_iter: {ITERATIONS}" in shown
    assert any(tag.startswith("held-out/") for tag in tags["images"])
    assert "_hparams_/session_start_info" in events.summary_metadata
    rates = [event.value for event in events.Scalars("learning_rate")]
    assert rates[:5] == pytest.approx([2e-4, 4e-4, 6e-4, 8e-4, rates[4]])
    assert rates[-1] < 1e-4


@pytest.fixture
def tensorboard(uninterrupted):
    """Address of TensorBoard's own command, serving the run."""
    command = Path(sys.executable).with_name("tensorboard")
    arguments = ["--logdir", str(uninterrupted / "tb_logger"), "--port", "0", "--reload_interval", "1"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    with subprocess.Popen([command, *arguments], **pipes) as process:
        try:
            address = next(found[0] for line in process.stdout if (found := re.search(r"http://\S+", line)))
            tags = f"{address.rstrip('/')}/data/plugin/scalars/tags"
            wait_for(lambda: "grad_norm" in requests.get(tags, timeout=60).json().get("tiny", {}), process)
            yield address
        finally:
            process.terminate()


BROWSER = shutil.which("chromium")


@pytest.mark.skipif(BROWSER is None, reason="no browser: apt-get install chromium")
def test_page_of_tensorboard_shows_the_run(tensorboard, tmp_path):
    """In a browser, not as served: the page draws itself with scripts."""
    window = ["--headless=new", "--window-size=1500,4000", f"--user-data-dir={tmp_path}"]
    container = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    time = "--virtual-time-budget=30000"  # of the page's own clock, which waits for what is loading
    command = [BROWSER, *window, *container, time, "--dump-dom", f"{tensorboard}#timeseries"]
    page = subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout
    shown = set(re.findall(r'title="([^"]+)"', page))
    groups = {"losses", "metrics", "grad_norm", "learning_rate", "data_share", "held-out"}
    assert groups | {"best/held-out/psnr"} <= shown  # the last names a curve: the first groups are open
    assert re.search(r">\s*tiny\s*<", page)


def test_yaml_of_the_run_is_kept_beside_it(uninterrupted):
    kept = yaml.safe_load((uninterrupted / "experiments/tiny/tiny.yml").read_text(encoding="utf-8"))
    assert kept["train"]["total_iter"] == ITERATIONS
