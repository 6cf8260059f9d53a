"""The best weights of a run: the file says itself what it is the best of, and a training goes on by what it says."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rnan_plugin.checkpoints import read, save_checkpoint
from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.api import get_root_logger
from rnan_plugin.training.states import is_best

NOTE = "best"  # key of the file's note: `{set, metric, better, val, iter}`
Row = dict[str, Any]  # of BasicSR's record: `{better, val, iter}`


def best_file(models: Path) -> Path:
    """Where the best weights are."""
    return models / "net_g_best.pth"


def note(place: tuple[str, str], row: Mapping[str, Any]) -> dict[str, Any]:
    """What the file says of itself.

    Args:
        place: Set and metric that the weights are the best by.
        row: Of the record.
    """
    return {NOTE: {"set": place[0], "metric": place[1], **row}}


def note_in(file: Path) -> dict[str, Any] | None:
    """The note of the best weights: empty where an earlier version wrote them; None where there are none to read."""
    try:
        found = read(file).get(NOTE, {})
    except UserError:
        return None
    row = {key: found.get(key) for key in ("better", "val", "iter")} if isinstance(found, dict) else {}
    return {**found} if is_best({"set": {"metric": row}}) else {}


def row_to_go_on_with(models: Path, place: tuple[str, str], row: Row | None) -> Row | None:
    """The record of the best that agrees with its file, which is made anew where it is of another metric, or gone.

    Args:
        models: The run's weights.
        place: Set and metric that the best is chosen by.
        row: What the training state has of them.

    Returns:
        None where choosing has to begin anew.
    """
    found = note_in(best_file(models))
    if found == {}:
        return row
    if found and (found["set"], found["metric"]) == place:
        return {key: found[key] for key in ("better", "val", "iter")}
    if row and row["iter"] >= 0:
        source = models / f"net_g_{row['iter']}.pth"
        try:
            save_checkpoint(read(source) | note(place, row), best_file(models))
        except UserError as error:
            get_root_logger().warning(f"{error}; the best weights by {place[1]} are chosen anew")
        else:
            get_root_logger().info(f"{best_file(models)}: made of {source}, the best by {place[1]} until here")
            return row
    return None
