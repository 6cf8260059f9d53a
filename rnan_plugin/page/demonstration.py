"""A clean picture degraded on the fly, and scored before and after as the paper's protocol does."""

from __future__ import annotations

import math
from pathlib import Path

from rnan_plugin.data.pairs import pair_of
from rnan_plugin.evaluation.classical import classical
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.files import shortened, write_whole
from rnan_plugin.images.codec import encode_png
from rnan_plugin.images.degradations import Image
from rnan_plugin.images.eight_bit import decode_image
from rnan_plugin.paper.tasks import TaskAtLevel

Scores = dict[str, dict[str, float | None]]


class Demonstration:
    """A clean picture on the channels of a task, and its degraded copy.

    Args:
        task: Degrades and scores it.
        code: The picture's file.
        name: Of the file.

    Raises:
        UserError: It is no picture of 8 bits without alpha, or too small.
    """

    def __init__(self, task: TaskAtLevel, code: bytes, name: str) -> None:
        self.task, self.name = task, name
        lq, self.clean = pair_of(task, decode_image(code, name), name)
        self.degraded = encode_png(lq)
        # What has another size can't be scored: the paper's rows of it are bicubic interpolation's.
        self.before: Image = classical("bicubic", task)(lq, name) if task.row.enlarges else lq

    def write(self, folder: Path) -> Path:
        """Write the degraded picture as a file, which is restored as any other; return where."""
        file = folder / "degraded" / shortened(f"{Path(self.name).stem}_{self.task.file_stem}", ".png")
        write_whole([self.degraded], file)
        return file

    def pictures(self, folder: Path) -> dict[str, Path]:
        """Write what is scored as files; return them by what they are."""
        pictures = {"before": self.before, "clean": self.clean}
        for which, img in pictures.items():
            write_whole([encode_png(img)], folder / f"{which}.png")
        return {which: folder / f"{which}.png" for which in pictures}

    def scores(self, restored: bytes) -> Scores:
        """PSNR in dB and SSIM of the degraded picture and of the restored file; None for equal images' PSNR.

        Raises:
            UserError: The picture is too small for SSIM.
        """
        return {"before": self._scored(self.before), "after": self._scored(decode_image(restored, self.name))}

    def _scored(self, img: Image) -> dict[str, float | None]:
        psnr, ssim = score(img, self.clean, self.task)
        return {"psnr": psnr if math.isfinite(psnr) else None, "ssim": ssim}
