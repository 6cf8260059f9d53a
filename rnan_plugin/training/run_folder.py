"""The folder of a run and its logs: what can't be made ends the start in one line; a full disk later does not."""

from __future__ import annotations

import logging
import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_path, remove_leftovers
from rnan_plugin.toolbox.api import (
    dict2str,
    get_env_info,
    get_root_logger,
    get_time_str,
    init_wandb_logger,
    make_exp_dirs,
)
from rnan_plugin.training.event_log import EventLog, Sink, TensorBoardSink
from rnan_plugin.training.mlflow_log import MlflowSink
from rnan_plugin.training.states import is_unsaved, mark_unsaved


def prepare_run(
    opt: dict[str, Any], option_file: str, state: Mapping[str, Any] | None
) -> Callable[[], EventLog | None]:
    """Make the run's folders and begin its log.

    Args:
        opt: As the launcher gives it, with `root_path`.
        option_file: Copied into the run's folder, in which it may stand itself.
        state: Training state to go on from.

    Returns:
        What to call once model and state are accepted: it copies the option file and gives what the first process logs
        to, if anything. A start that is refused leaves the run's own as they were.

    Raises:
        UserError: The run's folder can't be made or written.
    """
    opt["logger"].setdefault("use_tb_logger", False)
    options = Path(option_file).read_text(encoding="utf-8-sig")  # before the run's folder is moved aside with it
    run = Path(opt["path"]["experiments_root"])
    # A run that was killed before it had saved anything goes on in its folder as it is.
    fresh = state is None and not (opt["auto_resume"] and is_unsaved(run))
    try:
        if fresh:
            make_exp_dirs(opt)
        if opt["rank"] == 0:
            _make_folders(opt)
            if state is None:
                mark_unsaved(run)
    except OSError as error:
        where = error.filename or run
        raise UserError(f"{where}: can't be made ({error.strerror}); check the folder and the disk") from None
    _begin_log(opt)
    return partial(_begin_records, opt, options, Path(option_file), fresh, state["iter"] + 1 if state else 0)


def _begin_records(opt: dict[str, Any], options: str, source: Path, fresh: bool, first: int) -> EventLog | None:
    if opt["rank"] != 0:
        return None
    _keep_option_file(options, source, Path(opt["path"]["experiments_root"]))
    if fresh:
        _move_log_aside(Path(opt["root_path"], "tb_logger", opt["name"]))
    return _event_log(opt, options, first)


def _make_folders(opt: Mapping[str, Any]) -> None:
    for folder in (Path(opt["path"][name]) for name in ("models", "training_states")):
        folder.mkdir(exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise UserError(f"{folder}: no permission to write into it; nothing of the training could be saved")
        remove_leftovers(folder)
    remove_leftovers(Path(opt["path"]["experiments_root"]))


def _begin_log(opt: Mapping[str, Any]) -> None:
    """Begin the log with the versions and options."""
    file: str | None = str(Path(opt["path"]["log"], f"train_{opt['name']}_{get_time_str()}.log"))
    try:
        logger = get_root_logger(logger_name="basicsr", log_level=logging.INFO, log_file=file)
    except OSError as error:
        logging.getLogger("basicsr").handlers.clear()  # it was begun, and is begun again without a file
        logger = get_root_logger()
        logger.setLevel(logging.INFO)
        logger.warning(f"{file}: can't be written ({error.strerror}); training goes on without this log")
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handleError = _told_once(handler.baseFilename)  # type: ignore[method-assign]
    logger.info(get_env_info())
    logger.info(dict2str(opt))


def _told_once(file: str) -> Any:
    """What a log does with a line that it can't write."""
    told: list[logging.LogRecord] = []

    def tell(record: logging.LogRecord) -> None:
        if not told:
            reason = getattr(sys.exc_info()[1], "strerror", None) or sys.exc_info()[1]
            print(f"warning: {file}: can't be written ({reason}); training goes on without this log", file=sys.stderr)
        told[:] = [record]

    return tell


def _keep_option_file(options: str, source: Path, folder: Path) -> None:
    """Copy the option file beside the run's results, with the command; one that stands there stays as it is."""
    target = folder / source.name
    if source.exists() and target.exists() and source.samefile(target):
        return
    command = " ".join(" ".join(sys.argv).split())
    try:
        with atomic_path(target) as temporary:
            temporary.write_text(f"# GENERATE TIME: {time.asctime()}\n# CMD:\n# {command}\n\n{options}", "utf-8")
    except (OSError, UserError) as error:
        get_root_logger().warning(f"{target}: can't be written ({error}); training goes on without this copy")


def _move_log_aside(folder: Path) -> None:
    """An earlier run's TensorBoard log, also where the new one writes none: it would be taken for its own."""
    try:
        if folder.exists():
            folder.rename(f"{folder}_archived_{get_time_str()}")
    except OSError as error:
        get_root_logger().warning(f"{folder}: can't be moved aside ({error.strerror})")


def _event_log(opt: dict[str, Any], options: str, purge_step: int) -> EventLog | None:
    """The sinks that the section `logger` asks for; None where there are none."""
    if "debug" in opt["name"]:
        return None
    sinks: list[Sink] = []
    if opt["logger"]["use_tb_logger"]:
        sinks.append(_tensorboard(opt, purge_step))
    if opt["logger"].get("mlflow") is not None:
        sinks.append(MlflowSink(opt))
    log = EventLog(sinks)
    log.add_text("options", f"```yaml\n{options}\n```")
    return log if sinks else None


def _tensorboard(opt: dict[str, Any], purge_step: int) -> TensorBoardSink:
    """TensorBoard's log; what an interrupted run logged after its last state is hidden, since it is logged again."""
    folder = Path(opt["root_path"], "tb_logger", opt["name"])
    if (opt["logger"].get("wandb") or {}).get("project"):
        init_wandb_logger(opt)  # before the writer, whose scalars it copies
    return TensorBoardSink(folder, purge_step)
