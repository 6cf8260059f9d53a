"""The README's first picture: one photograph, noisy on its left, restored by the package's weights on its right.

    python tools/before_after.py docs/before_after.png

The photograph is scikit-image's "astronaut" (NASA, public domain). `rnan degrade` with `--task colordn --level 50` and
`rnan restore` with the same, `--tile 64 --overlap 8`, give the same pixels.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import cv2
import numpy as np
import skimage.data
from PIL import Image as Picture
from PIL import ImageDraw, ImageFont
from small_models import packed_method

from rnan_plugin.data.pairs import pair_of
from rnan_plugin.evaluation.protocol import score
from rnan_plugin.images.degradations import Image
from rnan_plugin.paper.tasks import TaskAtLevel

TASK = TaskAtLevel("colordn", 50)
ROWS = 344  # from the top: the head, the flag, the shuttle
SPLIT = 229  # column of the parting, through the face
ENLARGED = 2
LINE, HEIGHT, MARGIN = 4, 30, 12  # of the parting and the labels, in pixels of the picture


def halves(lq: Image, restored: Image) -> Image:
    """Both in one: `lq` left of the parting, `restored` right of it, enlarged pixel by pixel."""
    both = np.hstack([lq[:ROWS, :SPLIT], restored[:ROWS, SPLIT:]])
    return both.repeat(ENLARGED, axis=0).repeat(ENLARGED, axis=1)


def label(draw: ImageDraw.ImageDraw, text: str, left: float, bottom: float) -> None:
    """White on black, its corner at `left` and `bottom`."""
    font = ImageFont.load_default(size=20)
    width = draw.textlength(text, font=font)
    draw.rectangle((left, bottom - HEIGHT, left + width + 2 * MARGIN, bottom), fill=(0, 0, 0))
    draw.text((left + MARGIN, bottom - HEIGHT / 2), text, fill=(255, 255, 255), font=font, anchor="lm")


def main() -> int:
    """Run the command line; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("picture", type=Path, help="PNG to write")
    args = parser.parse_args()
    lq, gt = pair_of(TASK, skimage.data.astronaut(), "astronaut")
    restored = packed_method(TASK, ensemble=False).restore(lq, "astronaut")
    both = halves(lq, restored)
    parting = SPLIT * ENLARGED
    cv2.rectangle(both, (parting - LINE // 2, 0), (parting + LINE // 2 - 1, len(both)), (255, 255, 255), -1)
    picture = Picture.fromarray(both)
    draw = ImageDraw.Draw(picture)
    bottom = picture.height - MARGIN
    label(draw, f"noise, sigma 50: {score(lq, gt, TASK)[0]:.1f} dB", MARGIN, bottom)
    label(draw, f"restored: {score(restored, gt, TASK)[0]:.1f} dB", parting + MARGIN, bottom)
    picture.save(args.picture, optimize=True)
    print(f"{args.picture}: {picture.width}×{picture.height}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
