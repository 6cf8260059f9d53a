"""Degrade a folder of images as the paper does, so that any model can be tested on the same files.

    python scripts/degrade.py datasets/Kodak24 degraded/Kodak24_s50 --task colordn --level 50

writes OUTPUT_DIR/lq and OUTPUT_DIR/gt (grey, Y, or cropped to a multiple of the scale, as the task needs) as PNG with
the names of the input, and the settings in OUTPUT_DIR/settings.json. Levels: sigma (colordn, graydn), JPEG quality
(car), scale (sr); demosaic has none. The noise is that of the validation data sets with `noise_seed` N.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import shutil
import sys
import uuid
from pathlib import Path

from tqdm import tqdm

import rnan_plugin
from rnan_plugin.data.image_store import FolderStore
from rnan_plugin.images.codec import encode_png
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel
from rnan_plugin.errors import UserError, exit_status


def degrade_folder(input_dir: str, output_dir: Path, task_name: str, level: float | None, seed: int) -> int:
    """Write LQ and GT of every image below `input_dir`; complete or not at all.

    Args:
        input_dir: Folder of 8-bit images.
        output_dir: New folder.
        task_name: One of `TASKS`.
        level: Sigma, quality or scale; None for demosaicing.
        seed: Of the noise; 0 or more.

    Returns:
        Number of images.

    Raises:
        UserError: A bad level, an unreadable image, or an output folder that exists.
    """
    setting = TaskAtLevel(task_name, level, seed)
    if output_dir.exists():
        raise UserError(f"{output_dir}: exists already; remove it or choose another folder")
    store = FolderStore(input_dir)
    output_dir.parent.mkdir(parents=True, exist_ok=True)
    partial = output_dir.with_name(f".{output_dir.name}.{uuid.uuid4().hex[:8]}.partial")
    try:
        for name in tqdm(store.names, unit="image"):
            _write_pair(setting, store, name, partial)
        degradation = setting.degradation
        settings = {
            "task": task_name,
            "channels": setting.task.channels,
            "degradation": {"type": type(degradation).__name__, **dataclasses.asdict(degradation)},  # type: ignore[call-overload]
            "noise_seed": seed,
            "images": len(store.names),
            "rnan_plugin": rnan_plugin.__version__,
        }
        (partial / "settings.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        partial.rename(output_dir)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return len(store.names)


def _write_pair(setting: TaskAtLevel, store: FolderStore, name: str, folder: Path) -> None:
    for part, img in zip(("lq", "gt"), setting.pair(store, name), strict=True):
        file = folder / part / f"{name}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(encode_png(img, level=3))


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("input_dir", help="folder of images")
    parser.add_argument("output_dir", type=Path, help="new folder to write")
    parser.add_argument("--task", required=True, choices=sorted(TASKS))
    parser.add_argument("--level", type=float, help="sigma (0..255), JPEG quality (1..100) or scale")
    parser.add_argument("--seed", type=int, default=0, help="of the noise (default: 0)")
    args = parser.parse_args()
    count = degrade_folder(args.input_dir, args.output_dir, args.task, args.level, args.seed)
    print(f"{count} pairs in {args.output_dir}/lq and {args.output_dir}/gt")
    return 0


if __name__ == "__main__":
    sys.exit(exit_status(main))
