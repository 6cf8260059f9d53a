"""`figure`: a figure as the paper's, from the folder of a comparison; or the curves of a training."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import path_at_home

EXAMPLES = """
  rnan figure results/comparison/q10 Classic5 barbara figure --region 250 100 80 60
  rnan figure results/comparison/q10 Classic5 barbara differences --difference
  rnan figure experiments/train_RNAN_CAR_q10 curves.png

writes FIGURE.png and FIGURE.pdf, PSNR and SSIM of the whole image under each crop. Without --region it is chosen where
the methods differ most. --difference adds a row with the distance to the ground truth. The last one draws the loss, the
validation metrics, learning rate and speed of a training, from its TensorBoard log.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument(
        "folder", type=path_at_home, help="that `rnan compare` wrote, or of a training: experiments/NAME"
    )
    parser.add_argument("image_set", nargs="?", help="of a comparison: name of the set, such as Classic5")
    parser.add_argument("image", nargs="?", help="of a comparison: name of the image")
    parser.add_argument(
        "figure", type=path_at_home, help="to write, without ending: PNG and PDF; of a training, one file"
    )
    parser.add_argument("--region", type=int, nargs=4, metavar=("LEFT", "TOP", "WIDTH", "HEIGHT"))
    parser.add_argument("--size", type=int, nargs=2, default=(80, 60), help="of a chosen region (default: 80 60)")
    parser.add_argument("--difference", action="store_true", help="add maps of the distance to the ground truth")
    parser.add_argument("--overwrite", action="store_true", help="replace pictures that are there already")


def run(options: argparse.Namespace) -> int:
    """Draw; see `write_figure` and `draw_run` for errors."""
    from rnan_plugin.errors import UserError

    if options.image_set is None:
        if options.region or options.difference:
            raise UserError("--region, --difference: are for a comparison, whose set and image have to be named")
        from rnan_plugin.evaluation.run_figure import draw_run

        draw_run(options.folder, options.figure, overwrite=options.overwrite)
        return 0
    if options.image is None:
        raise UserError("image: of a comparison, name the set and the image: rnan figure FOLDER SET IMAGE FIGURE")
    from rnan_plugin.evaluation.figure import write_figure

    region = write_figure(
        options.folder,
        options.image_set,
        options.image,
        options.figure,
        region=tuple(options.region) if options.region else None,
        size=tuple(options.size),
        maps=options.difference,
        overwrite=options.overwrite,
    )
    print(f"region {' '.join(map(str, region))} -> {options.figure}.png, {options.figure}.pdf")
    return 0
