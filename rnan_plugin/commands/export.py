"""`export`: a network as a file for other programs."""

from __future__ import annotations

import argparse

from rnan_plugin.choices import EXPORT_FORMS, ONNX_RUNTIMES
from rnan_plugin.commands.arguments import add_network, add_task, add_weights, path_at_home, task_of
from rnan_plugin.errors import UserError

EXAMPLES = """
  rnan export --task car --level 10 --to safetensors car_10.safetensors
  rnan export -opt options/train_RNAN_CAR_q10.yml --weights net_g_latest.pth --to pth car_10.pth
  rnan export --task car --level 10 --to onnx --runtime onnxruntime car_10.onnx
  rnan export --weights RNAN_F64G10P48L2N30.pt --to safetensors released.safetensors
  rnan export --task car --level 10 --to openmodeldb --author NAME 1x-RNAN-JPEG.json
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("out", metavar="OUT", type=path_at_home, help="file to write; its ending is the form's name")
    told = "pth: checkpoint of the plugin and BasicSR; safetensors: without code, for most programs; onnx: a graph; "
    told += "openmodeldb: an entry of that catalogue, OUT ends in .json"
    parser.add_argument("--to", required=True, choices=EXPORT_FORMS, help=told)
    add_task(parser, required=False, why="take the package's weights")
    add_network(parser)
    add_weights(parser)
    told = "of onnx: any (default), or onnxruntime: its own attention, memory linear in the pixels"
    parser.add_argument("--runtime", choices=ONNX_RUNTIMES, default="any", help=told)
    parser.add_argument("--half", action="store_true", help="of onnx: weights, input and output in float16")
    told = "of openmodeldb: your ID there; the entry lists the exported files beside OUT of its name"
    parser.add_argument("--author", metavar="ID", help=told)
    told = "of openmodeldb: SPDX expression (default: the plugin's for the package's networks, else none)"
    parser.add_argument("--license", metavar="SPDX", help=told)
    parser.add_argument("--url", help="of openmodeldb: folder where the files lie (default: addresses are left out)")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it is there already")


def run(options: argparse.Namespace) -> int:
    """Write the file; see `rnan_plugin.export.files.export` for errors."""
    from rnan_plugin.export.files import export
    from rnan_plugin.export.openmodeldb import Listing
    from rnan_plugin.inference.networks import load_network

    task = task_of(options)
    listing = None if options.author is None else Listing(options.author, task, options.license, options.url)
    if listing is None and (options.license is not None or options.url is not None):
        raise UserError("--license, --url: are for --to openmodeldb, with --author")
    loaded = load_network(options.opt, options.weights, task)
    onnx = {"runtime": options.runtime, "half": options.half}
    export(loaded, options.to, options.out, overwrite=options.overwrite, listing=listing, **onnx)
    print(f"wrote {options.out} from {loaded.weights}")
    return 0
