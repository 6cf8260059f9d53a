"""The numbers of the paper's Tables 2 to 6 and 8, all methods, as data.

Source: Zhang, Li, Li, Zhong, Fu: Residual Non-local Attention Networks for Image Restoration, ICLR 2019.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

# Input: 0.7800 in the table for quality 10 on Classic5, 0.7595 by the SSIM that the rest of the paper has.
OTHER_SSIM = "SSIM of JPEG images: published by another implementation, on JPEG itself some hundredths higher"


@dataclass(frozen=True)
class Published:
    """One cell of a table: PSNR in dB, and SSIM where the table has it.

    Super-resolution is scored on Y, CAR on Y, the rest on all channels.
    """

    table: int
    task: str
    level: float | None
    image_set: str
    method: str
    training_set: str  # empty: DIV2K for RNAN, the method's own for others
    psnr: float
    ssim: float | None

    @property
    def other_ssim(self) -> bool:
        """Whether its SSIM is of another implementation, `OTHER_SSIM`."""
        return self.task == "car" and self.ssim is not None


@cache
def all_published() -> tuple[Published, ...]:
    """Every number, in the order of the tables."""
    text = (files("rnan_plugin.paper") / "rnan_iclr2019.csv").read_text(encoding="utf-8")
    return tuple(
        Published(
            table=int(row["table"]),
            task=row["task"],
            level=float(row["level"]) if row["level"] else None,
            image_set=row["image_set"],
            method=row["method"],
            training_set=row["training_set"],
            psnr=float(row["psnr"]),
            ssim=float(row["ssim"]) if row["ssim"] else None,
        )
        for row in csv.DictReader(text.splitlines())
    )


def published_rows(task: str, level: float | None, image_set: str) -> list[Published]:
    """All methods that the paper reports on an image set for a task at a level."""
    return [row for row in all_published() if (row.task, row.level, row.image_set) == (task, level, image_set)]
