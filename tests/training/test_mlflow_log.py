"""mlflow beside TensorBoard, with the real package and a folder of its own; what can't be written ends no training."""

from __future__ import annotations

import importlib.util
import logging
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import tiny_options, write_options
from legal_options import parse

from rnan_plugin.__main__ import main
from rnan_plugin.errors import UserError
from rnan_plugin.training.event_log import EventLog
from rnan_plugin.training.mlflow_log import RUN_FILE, MlflowSink


def test_without_the_package_it_is_one_line(legal: dict[str, Any], monkeypatch, capfd) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else found(name))
    legal["logger"]["mlflow"] = {"experiment": "x"}
    with pytest.raises(SystemExit):
        parse(legal, monkeypatch)
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("error: small.yml, logger.mlflow: the package mlflow is not installed; pip install ")


class Broken:
    """Fails at the second number."""

    name, place, failures = "the broken log", "nowhere", (ValueError,)

    def __init__(self) -> None:
        self.got: list[str] = []

    def add_scalar(self, tag: str, *_: Any) -> None:
        self.got.append(tag)
        if len(self.got) == 2:
            raise ValueError("the server\nis away")

    def close(self) -> None:
        self.got.append("closed")


def test_a_sink_that_fails_is_left_out_and_told_once(monkeypatch, caplog) -> None:
    monkeypatch.setattr("rnan_plugin.training.event_log.get_root_logger", lambda: logging.getLogger("run"))
    sinks = [Broken(), Broken()]
    sinks[1].got = ["already"] * 7  # never fails
    log = EventLog(sinks)  # type: ignore[arg-type]
    for tag in "abc":
        log.add_scalar(tag, 1.0, 1)
    assert sinks[0].got == ["a", "b", "closed"]
    assert sinks[1].got[7:] == ["a", "b", "c"]
    (record,) = caplog.records
    assert record.message == "nowhere: can't be written (the server is away); training goes on without the broken log"


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    pytest.importorskip("mlflow", reason="the package mlflow is not installed")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "true")
    from mlflow.tracking import MlflowClient

    return MlflowClient((tmp_path / "runs").as_uri())


def test_a_training_is_one_run_also_when_resumed(client: Any, data: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    opt = tiny_options(data, total_iter=2)
    opt["val"] |= {"save_img": False}
    opt["logger"] |= {
        "use_tb_logger": False,
        "mlflow": {"experiment": "tiny ones", "tracking_uri": client.tracking_uri},
    }
    for last in (2, 4):
        opt["train"]["total_iter"] = last
        write_options(tmp_path, opt)
        assert main(["train", "-opt", "tiny.yml", "--auto_resume"]) == 0
    experiment = client.get_experiment_by_name("tiny ones")
    (run,) = client.search_runs([experiment.experiment_id])
    assert (tmp_path / "experiments/tiny" / RUN_FILE).read_text().strip() == run.info.run_id
    assert (run.info.run_name, run.info.status) == ("tiny", "FINISHED")
    for tag in ("losses/l_pix", "grad_norm", "learning_rate"):
        assert [item.step for item in client.get_metric_history(run.info.run_id, tag)] == [1, 2, 3, 4]
    assert [item.step for item in client.get_metric_history(run.info.run_id, "metrics/held-out/psnr")] == [2, 4]
    assert run.data.params["train.optim_g.lr"] == str(float(opt["train"]["optim_g"]["lr"]))
    assert run.data.params["network_g.num_feat"] == "4"
    assert {file.path for file in client.list_artifacts(run.info.run_id)} == {"options.md", "held-out"}
    assert not Path("tb_logger").exists()


def test_a_run_that_is_not_there_is_one_line(client: Any, tmp_path: Path) -> None:
    section = {"tracking_uri": client.tracking_uri, "resume_id": "f" * 32}
    opt = {"name": "x", "logger": {"mlflow": section}, "path": {"experiments_root": str(tmp_path)}}
    with pytest.raises(UserError, match=r"^logger\.mlflow: no run can be begun \(Run 'f+' not found\)"):
        MlflowSink(opt)
    opt["logger"]["mlflow"] = {"tracking_uri": client.tracking_uri}
    sink = MlflowSink(opt)
    sink.add_image("set/00", torch.ones(3, 2, 2), 5)
    sink.add_scalar("a", 1.0, 1)
    sink.close()
    (run,) = client.search_runs([client.get_experiment_by_name("rnan").experiment_id])
    assert run.data.metrics == {"a": 1.0}
    assert client.list_artifacts(run.info.run_id, "set")[0].path == "set/00_5.png"
