"""The diagnosis, and the command line around it."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import pytest
import torch
import yaml
from bad_files import noise, save
from conftest import REPOSITORY

from rnan_plugin import __main__, device, errors, startup
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.environment import doctor
from rnan_plugin.environment import hook as environment_hook

Diagnose = Callable[..., tuple[int, str]]


@pytest.fixture
def diagnose(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Diagnose:
    """Run the doctor in an empty folder; return its status and what it printed."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(startup, "failures", [])

    def run(*arguments: str) -> tuple[int, str]:
        status = __main__.main(["doctor", *arguments])
        return status, capsys.readouterr().out

    return run


def option_file(folder: Path, backend: str, **roots: object) -> str:
    """A test of an untrained network's, whose weights lie beside it."""
    path, network = (
        folder / "options.yml",
        {"num_in_ch": 3, "num_out_ch": 3, "num_feat": 4, "num_rab": 1, "num_rnab": 1},
    )
    torch.save({"params": RNAN(**network).state_dict()}, folder / "net.pth")
    made = {} if "dataroot_lq" in roots else {"degradation": {"type": "jpeg", "quality": 10}}
    dataset = {"name": "set", "type": "RestorationDataset", "io_backend": {"type": backend}, **made, **roots}
    content = {
        "name": "x",
        "model_type": "RestorationModel",
        "num_gpu": 0,
        "datasets": {"test": dataset},
        "network_g": {"type": "RNAN", **network},
        "path": {"pretrain_network_g": str(folder / "net.pth")},
        "val": {"save_img": True},
    }
    if isinstance(roots["dataroot_gt"], list):  # for training
        content["datasets"] = {"train": dataset | {"gt_size": 8, "batch_size_per_gpu": 1, "num_worker_per_gpu": 0}}
        content["train"] = {
            "total_iter": 1,
            "optim_g": {"type": "Adam", "lr": 1e-4},
            "scheduler": {"type": "MultiStepLR", "milestones": [1]},
            "pixel_opt": {"type": "MSELoss"},
        }
        content["logger"] = {"print_freq": 1, "save_checkpoint_freq": 1}
        del content["val"]
    path.write_text(yaml.safe_dump(content))
    return str(path)


def pack(folder: Path, listed: Iterable[str], stored: Iterable[str]) -> str:
    """Write an LMDB that holds the keys `stored`, and a meta_info.txt that lists the keys `listed`."""
    with lmdb.open(str(folder), map_size=2**20) as environment, environment.begin(write=True) as transaction:
        for key in stored:
            transaction.put(key.encode(), b"image")
    (folder / "meta_info.txt").write_text("".join(f"{key}.png (8,8,3) 1\n" for key in listed))
    return str(folder)


def failures(output: str) -> list[str]:
    return [line for line in output.splitlines() if line.startswith("FAIL")]


def test_healthy_environment(diagnose: Diagnose) -> None:
    status, output = diagnose()
    assert failures(output) == []
    assert status == 0
    for part in ("torchvision", "basicsr 1.4.2", "RNAN is registered in ARCH_REGISTRY", "hook", "CPU threads"):
        assert part in output
    assert all(line.split()[0] in ("ok", "note") for line in output.splitlines())


def test_library_versions_agree_with_the_packaging() -> None:
    packaging = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    required = dict(line.split(">=") for line in packaging["dependencies"] if ">=" in line)
    assert {name: library.oldest for name, library in doctor.LIBRARIES.items()} == {
        name: required[name] for name in doctor.LIBRARIES
    }
    assert packaging["requires-python"] == f">={'.'.join(map(str, doctor.OLDEST_PYTHON))}"


def test_old_and_broken_libraries(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("numpy.__version__", "1.9.3")
    monkeypatch.setitem(sys.modules, "torchvision", None)
    status, output = diagnose()
    assert status == 1
    numpy, torchvision = failures(output)[:2] if "numpy" in failures(output)[0] else failures(output)[1::-1]
    assert "numpy 1.9.3, older than 1.26" in numpy
    assert "torchvision cannot be imported" in torchvision
    assert "pip install --force-reinstall torch torchvision" in torchvision


@pytest.mark.parametrize(("older", "newer"), [("1.9.3", "1.26"), ("2.14.0a0+git", "2.14.1+cu130"), ("4.8", "5.0.0.93")])
def test_versions_are_compared_as_numbers(older: str, newer: str) -> None:
    assert doctor._numbers(older) < doctor._numbers(newer)


def test_wrong_toolbox_version(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose()  # imports the toolbox
    monkeypatch.setattr("basicsr.__version__", "1.3.5")
    status, output = diagnose()
    assert status == 1
    assert len(failures(output)) == 1
    assert "basicsr 1.3.5" in output
    assert "`rnan install-basicsr` installs 1.4.2" in failures(output)[0]


def test_tensorboard_notes(monkeypatch: pytest.MonkeyPatch) -> None:
    versions = {"tensorboard": "2.21.0", "tb-nightly": "2.20.0a20250717"}
    monkeypatch.setattr(doctor, "_installed_version", versions.get)
    monkeypatch.setitem(sys.modules, "pkg_resources", None)
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    both, command = doctor.check_tensorboard()
    assert "uninstall -y tb-nightly" in both.remedy
    assert "pkg_resources" in command.text
    versions.pop("tb-nightly")
    assert not list(doctor.check_tensorboard())


def test_missing_distutils(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "distutils" else find(name))
    assert [finding.remedy for finding in doctor.check_toolbox()] == ["`pip install setuptools`"]


def test_no_toolbox_is_no_fault(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "basicsr" else find(name))
    monkeypatch.delitem(sys.modules, "basicsr", raising=False)
    status, output = diagnose()
    assert status == 0
    (line,) = (line for line in output.splitlines() if "basicsr" in line.lower())
    assert line.startswith("note BasicSR is not installed")
    assert line.endswith("-> `rnan install-basicsr`")


@pytest.mark.parametrize("name", ["basicsr", "rnan_plugin"])
def test_two_copies(diagnose: Diagnose, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    second = tmp_path / "checkout" / name
    second.mkdir(parents=True)
    (second / "__init__.py").touch()
    monkeypatch.setattr(sys, "path", [*sys.path, str(second.parent)])
    status, output = diagnose()
    assert status == 1
    (line,) = failures(output)
    assert f"two copies of {name}" in line
    assert str(second) in line
    assert str(Path(sys.modules[name].__file__ or "").parent) in line


def test_link_to_the_toolbox_is_no_second_copy(diagnose: Diagnose, tmp_path: Path) -> None:
    diagnose()
    (tmp_path / "basicsr").symlink_to(sys.modules["basicsr"].__path__[0])
    status, output = diagnose()
    assert status == 0
    assert "./basicsr: link to" in output


def test_failed_registration_and_missing_class(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    diagnose()
    from rnan_plugin.toolbox import api as toolbox

    monkeypatch.setattr(startup, "failures", ["registering RNAN failed (ImportError: broken)"])
    monkeypatch.delitem(toolbox.ARCH_REGISTRY._obj_map, "RNAN")
    status, output = diagnose()
    assert status == 1
    assert "registering RNAN failed (ImportError: broken)" in failures(output)[0]
    assert "RNAN is not registered in ARCH_REGISTRY" in failures(output)[1]


def test_hook_and_kill_switch(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(environment_hook, "is_enabled", lambda: True)
    monkeypatch.delenv("RNAN_PLUGIN_DISABLE", raising=False)
    assert {finding.verdict for finding in doctor.check_hook()} == {"ok"}
    monkeypatch.setattr(environment_hook, "is_enabled", lambda: False)
    monkeypatch.setenv("RNAN_PLUGIN_DISABLE", "1")
    hook, switch, _ = doctor.check_hook()
    assert "rnan enable" in hook.remedy
    assert "unset RNAN_PLUGIN_DISABLE" in switch.remedy


def test_a_crashing_check_is_a_finding(diagnose: Diagnose, monkeypatch: pytest.MonkeyPatch) -> None:
    def crash() -> Iterator[doctor.Finding]:
        yield doctor.Finding("ok", "so far")
        raise RuntimeError("two\nlines")

    monkeypatch.setattr(doctor, "check_device", crash)
    status, output = diagnose()
    assert status == 1
    assert "so far" in output
    assert [line for line in failures(output) if "RuntimeError: two lines" in line]


# Option file


def test_data_in_place(diagnose: Diagnose, tmp_path: Path) -> None:
    path = pack(tmp_path / "gt.lmdb", listed="abc", stored="abc")
    status, output = diagnose("-opt", option_file(tmp_path, "lmdb", dataroot_gt=path, dataroot_lq=path))
    assert failures(output) == []
    assert status == 0
    assert output.count("gt.lmdb, 3 images") == 2
    save(tmp_path / "photos/one.png", noise(8, 8))
    assert diagnose("-opt", option_file(tmp_path, "disk", dataroot_gt=str(tmp_path / "photos")))[0] == 0


def test_several_roots_are_told_apart_by_their_endings(diagnose: Diagnose, tmp_path: Path) -> None:
    path = pack(tmp_path / "gt.lmdb", listed="abc", stored="abc")
    save(tmp_path / "photos/one.png", noise(8, 8))
    for backend in ("disk", "lmdb"):
        status, output = diagnose("-opt", option_file(tmp_path, backend, dataroot_gt=[path, str(tmp_path / "photos")]))
        assert (status, failures(output)) == (0, [])
        assert output.count("gt.lmdb, 3 images") == 1


@pytest.mark.parametrize(
    ("listed", "stored", "words"),
    [
        ("abc", "ab", "lists c, which it does not hold"),
        ("abc", "abcd", "lists 3 images, but it holds 4"),
        ("", "a", "meta_info.txt: no images listed"),
    ],
)
def test_incomplete_lmdb(diagnose: Diagnose, tmp_path: Path, listed: str, stored: str, words: str) -> None:
    path = pack(tmp_path / "gt.lmdb", listed, stored)
    status, output = diagnose("-opt", option_file(tmp_path, "lmdb", dataroot_gt=path))
    assert status == 1
    assert words in failures(output)[0]
    assert "pack " in failures(output)[0]


def test_names_with_dots_are_no_fault(diagnose: Diagnose, tmp_path: Path) -> None:
    names = ["a.v2", "b", "c.png.d"]
    path = pack(tmp_path / "gt.lmdb", names, names)
    status, output = diagnose("-opt", option_file(tmp_path, "lmdb", dataroot_gt=path))
    assert failures(output) == []
    assert status == 0
    assert "gt.lmdb, 3 images" in output


@pytest.mark.parametrize("file", ["data.mdb", "meta_info.txt"])
def test_damaged_lmdb_is_a_finding(diagnose: Diagnose, tmp_path: Path, file: str) -> None:
    path = pack(tmp_path / "gt.lmdb", "abc", "abc")
    code = (tmp_path / "gt.lmdb" / file).read_bytes()
    (tmp_path / "gt.lmdb" / file).write_bytes(code[: len(code) // 2] + b"\xff" * (file == "meta_info.txt"))
    status, output = diagnose("-opt", option_file(tmp_path, "lmdb", dataroot_gt=path))
    assert status == 1
    assert f"{file}: damaged (" in failures(output)[0]
    assert "broke off" not in output


def test_roots_of_a_wrong_type_are_findings(diagnose: Diagnose, tmp_path: Path) -> None:
    status, output = diagnose("-opt", option_file(tmp_path, "disk", dataroot_gt=5))
    assert status == 1
    assert "datasets.test (set).dataroot_gt: 5 is not a text that is a path" in failures(output)[0]


def test_apple_gpu_is_the_device_that_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("torch.backends.mps.is_available", lambda: True)
    assert device.choose().type == "mps"
    (gpu, _) = doctor.check_device()
    assert str(gpu) == "ok   Apple GPU (mps)"


def test_missing_lmdb_and_missing_folder(diagnose: Diagnose, tmp_path: Path) -> None:
    missing = str(tmp_path / "missing.lmdb")
    status, output = diagnose("-opt", option_file(tmp_path, "lmdb", dataroot_gt=missing))
    assert status == 1
    assert f"datasets.test (set).dataroot_gt: {missing} not found" in failures(output)[0]
    assert f"rnan prepare FOLDER {missing}" in failures(output)[0]
    photos = str(save(tmp_path / "photos/one.png", noise(8, 8)).parent)
    _, output = diagnose("-opt", option_file(tmp_path, "disk", dataroot_gt=photos, dataroot_lq="nowhere"))
    assert "datasets.test (set).dataroot_lq: nowhere not found" in failures(output)[0]


def test_an_option_file_is_judged_as_its_training_judges_it(
    diagnose: Diagnose, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever it is: what is told comes from the same checks, in the same words."""
    save(tmp_path / "photos/one.png", noise(8, 8))
    (tmp_path / "empty").mkdir()
    file = option_file(tmp_path, "disk", dataroot_gt=[str(tmp_path / "photos")])
    legal = yaml.safe_load(Path(file).read_text())
    train, one = legal["train"], legal["datasets"]["train"]
    optimiser = train["optim_g"]
    slips: list[dict[str, Any]] = [
        {"train": train | {"total_iters": 6}},
        {"train": train | {"optim_g": optimiser | {"lr": -1}, "total_iter": 0}},  # two lines
        {"network_g": None},
        {"datasets": {"train": one | {"dataroot_gt": str(tmp_path / "empty")}}},
        {"datasets": {"train": one | {"dataroot_gt": file}}},
        {"datasets": {"train": one | {"gt_size": 9}}},
        {"datasets": {"train": None}},
        {"path": {"pretrain_network_g": "gone.pth"}},
        {"scale": 2},
        {"name": "../x"},
    ]
    assert diagnose("-opt", file)[0] == 0
    for slip in slips:
        Path(file).write_text(yaml.safe_dump(legal | slip))
        with pytest.raises(SystemExit, match="2"):
            __main__.main(["train", "-opt", file])
        refused = [line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines()]
        status, output = diagnose("-opt", file)
        assert status == 1
        assert [line.removeprefix("FAIL ") for line in failures(output)] == refused
        assert not (tmp_path / "experiments").exists()


def test_a_training_section_that_is_left_in_a_file_to_test_with(diagnose: Diagnose, tmp_path: Path) -> None:
    """`rnan test` passes over it; without weights to test, it is a training that lacks its data."""
    save(tmp_path / "photos/one.png", noise(8, 8))
    file = option_file(tmp_path, "disk", dataroot_gt=str(tmp_path / "photos"))
    content = yaml.safe_load(Path(file).read_text()) | {"train": {"total_iter": 1}}
    Path(file).write_text(yaml.safe_dump(content))
    assert diagnose("-opt", file)[0] == 0
    Path(file).write_text(yaml.safe_dump(content | {"path": {}}))
    status, output = diagnose("-opt", file)
    assert status == 1
    assert "section 'logger' is missing" in failures(output)[0]  # as of a training


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no such option file"),
        ("a: [", "not valid YAML"),
        ("- list", "not a file of keys"),
        ("name: x", "no data sets"),
        ("datasets: {train: {}}", "key 'name' is missing"),
        ("x: !!python/name:os.system", "not valid YAML"),  # would run code in the toolbox's own loader
    ],
)
def test_unreadable_option_file(diagnose: Diagnose, tmp_path: Path, text: str | None, words: str) -> None:
    path = tmp_path / "options.yml"
    if text is not None:
        path.write_text(text)
    status, output = diagnose("-opt", str(path))
    assert status == 1
    assert str(path) in failures(output)[0]
    assert words in failures(output)[0]
    assert "broke off" not in output


# Command line


def test_user_errors_and_interrupts(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: str | None) -> int:
        raise errors.UserError("what, where; remedy")

    monkeypatch.setattr(doctor, "diagnose", fail)
    assert __main__.main(["doctor"]) == 2
    assert capsys.readouterr().err == "error: what, where; remedy\n"

    def interrupt(_: str | None) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(doctor, "diagnose", interrupt)
    assert __main__.main(["doctor"]) == 130


def test_a_reader_that_has_seen_enough_is_no_traceback() -> None:
    command = f"{sys.executable} -m rnan_plugin sets . | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=False)
    assert result.stdout.startswith("Set5")
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("mode", ["train", "test"])
def test_train_and_test_forward_all_arguments(monkeypatch: pytest.MonkeyPatch, mode: str) -> None:
    calls: list[tuple[str, list[str]]] = []

    def record(mode: str, argv: list[str]) -> int:
        calls.append((mode, argv))
        return 3

    monkeypatch.setattr(f"rnan_plugin.commands.{mode}.launch", record)
    assert __main__.main([mode, "-opt", "x.yml", "--help", "--", "a:b=1"]) == 3
    assert calls == [(mode, ["-opt", "x.yml", "--help", "--", "a:b=1"])]


def test_help_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert __main__.main(["--help"]) == 0
    output = capsys.readouterr().out
    assert output.startswith("usage: rnan COMMAND")
    assert all(f"\n  {name} " in output for name in __main__.HELP_LINES)
