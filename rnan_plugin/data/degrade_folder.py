"""A folder of images degraded as the paper does, so that any model can be tested on the same files."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.data.pairs import pair
from rnan_plugin.errors import UserError
from rnan_plugin.files import atomic_folder, writing
from rnan_plugin.images.codec import encode_png
from rnan_plugin.paper.tasks import TaskAtLevel
from rnan_plugin.progress import FileProgress
from rnan_plugin.targets import check_folder, check_names, real
from rnan_plugin.version import __version__


def degrade_folder(input_dir: str, output_dir: Path, task: TaskAtLevel) -> int:
    """Write LQ and GT of every image below `input_dir`, and settings.json; complete or not at all.

    Args:
        input_dir: Folder of 8-bit images.
        output_dir: New folder.
        task: What to degrade for, at which level, with which seed of the noise.

    Returns:
        Number of images.

    Raises:
        UserError: An unreadable image, or an output folder that exists, lies in the input or can't be written.
    """
    _check_output(output_dir, Path(input_dir))
    store = FolderStore(input_dir)
    store.sizes()  # tells what is no image for it before any work is done
    with writing(output_dir), atomic_folder(output_dir) as folder:
        with FileProgress(len(store.names), "degrading") as progress:
            for name in store.names:
                _write_pair(task, store, name, folder)
                progress.step()
        settings = _settings(task) | {"images": len(store.names), "rnan_plugin": __version__}
        (folder / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
    return len(store.names)


def _check_output(output_dir: Path, input_dir: Path) -> None:
    if os.path.lexists(output_dir):
        raise UserError(f"{output_dir}: exists already; remove it or choose another folder")
    if real(input_dir) in real(output_dir).parents:
        told = "where its images would be taken for the input's; choose a folder outside"
        raise UserError(f"{output_dir}: lies in the input {input_dir}, {told}")
    check_folder(output_dir.parent, output_dir)
    check_names(output_dir)


def _settings(task: TaskAtLevel) -> dict[str, object]:
    degradation = task.degradation
    arguments = dataclasses.asdict(degradation)  # type: ignore[call-overload]  # the protocol is no dataclass
    return {
        "task": task.name,
        "channels": task.row.channels,
        "degradation": {"type": type(degradation).__name__, **arguments},
        "noise_seed": task.noise_seed,
    }


def _write_pair(task: TaskAtLevel, store: FolderStore, name: str, folder: Path) -> None:
    for part, img in zip(("lq", "gt"), pair(task, store, name), strict=True):
        file = folder / part / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(img, level=3))
