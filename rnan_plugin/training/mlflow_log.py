"""The log of a training in mlflow: one run for one training, however often that is resumed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.files import atomic_path
from rnan_plugin.options.schema import flat
from rnan_plugin.options.sections import Mlflow

RUN_FILE = "mlflow_run"  # in the run's folder, with which it is moved aside
_MOST = 500  # entries of one request; mlflow takes a thousand metrics, a hundred parameters
_LONGEST = 500  # characters of a parameter


class MlflowSink:
    """A run of mlflow; see `event_log.Sink`.

    Numbers wait until those of the next iteration come, and go in one request.

    Args:
        opt: The whole option file; `logger.mlflow` says where to.

    Raises:
        UserError: The server can't be reached, or knows no such run.
    """

    name = "mlflow's log"

    def __init__(self, opt: Mapping[str, Any]) -> None:
        from mlflow.exceptions import MlflowException
        from mlflow.tracking import MlflowClient

        self.failures: tuple[type[Exception], ...] = (MlflowException, OSError)
        settings, folder = opt["logger"]["mlflow"], Path(opt["path"]["experiments_root"])
        self._waiting: list[Any] = []
        try:
            self._client = MlflowClient(settings.get("tracking_uri"))
            self.place = f"mlflow, {self._client.tracking_uri}"
            self._run = self._begin(settings, folder / RUN_FILE, opt["name"])
            self._client.update_run(self._run, status="RUNNING")
            self._tell_options(opt)
        except self.failures as error:
            told = f"no run can be begun ({said_by(error)}); mend it, or take the section out"
            raise UserError(f"logger.mlflow: {told}") from None

    def _begin(self, settings: Mapping[str, Any], file: Path, name: str) -> str:
        """The run that `resume_id` names, or that this training has begun before, or a new one."""
        known = settings.get("resume_id") or (file.read_text(encoding="utf-8").strip() if file.exists() else None)
        if known:
            return str(self._client.get_run(known).info.run_id)
        wanted = settings.get("experiment", Mlflow.experiment)
        experiment = self._client.get_experiment_by_name(wanted)
        number = experiment.experiment_id if experiment else self._client.create_experiment(wanted)
        run = str(self._client.create_run(number, run_name=name).info.run_id)
        with atomic_path(file) as temporary:
            temporary.write_text(f"{run}\n", encoding="utf-8")
        return run

    def _tell_options(self, opt: Mapping[str, Any]) -> None:
        """The option file's keys as parameters; those that were changed since a run began keep their first value."""
        from mlflow.entities import Param

        there = self._client.get_run(self._run).data.params
        sections = {
            key: opt[key] for key in ("network_g", "datasets", "train", "val", "scale", "manual_seed") if key in opt
        }
        new = [Param(key, str(value)[:_LONGEST]) for key, value in flat(sections) if key not in there]
        for first in range(0, len(new), 100):
            self._client.log_batch(self._run, params=new[first : first + 100])

    def add_scalar(self, tag: str, value: float, step: int) -> None:
        """See `Sink`."""
        from mlflow.entities import Metric

        if len(self._waiting) >= _MOST or (self._waiting and self._waiting[-1].step != step):
            self.flush()
        self._waiting.append(Metric(tag, float(value), int(time.time() * 1000), step))

    def add_image(self, tag: str, image: Any, step: int) -> None:
        """See `Sink`."""
        pixels = (image.permute(1, 2, 0) * 255).round().byte().numpy()
        self._client.log_image(self._run, pixels, artifact_file=f"{tag}_{step}.png")

    def add_text(self, tag: str, text: str) -> None:
        """See `Sink`."""
        self._client.log_text(self._run, text, f"{tag}.md")

    def add_hparams(self, settings: dict[str, Any], results: dict[str, float]) -> None:
        """See `Sink`; the settings are there, as parameters."""
        del settings
        for tag, value in results.items():
            self._client.log_metric(self._run, tag, float(value))

    def flush(self) -> None:
        """See `Sink`."""
        waiting, self._waiting = self._waiting, []
        if waiting:
            self._client.log_batch(self._run, metrics=waiting)

    def close(self) -> None:
        """See `Sink`."""
        with suppress(*self.failures):
            self.flush()
        self._client.set_terminated(self._run)
