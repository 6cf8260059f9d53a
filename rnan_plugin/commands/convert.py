"""`convert`: released weights as a checkpoint of BasicSR."""

from __future__ import annotations

import argparse

from rnan_plugin.commands.arguments import path_at_home


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Describe the command line."""
    parser.add_argument("released", metavar="RELEASED", help="file of the RNAN release")
    parser.add_argument("out", metavar="OUT", type=path_at_home, help="file to write")
    parser.add_argument("--overwrite", action="store_true", help="replace OUT where it is there already")


def run(options: argparse.Namespace) -> int:
    """Write `{'params': …}`, and print the `network_g` section that goes with it.

    Raises:
        UserError: See `load_released`; OUT is there already, or can't be written.
    """
    import yaml

    from rnan_plugin.archs.official_weights import infer_arguments, load_released, read_state_dict
    from rnan_plugin.checkpoints import save_checkpoint
    from rnan_plugin.targets import check_new_file

    check_new_file(options.out, [options.released], overwrite=options.overwrite)
    network = {"type": "RNAN"} | infer_arguments(read_state_dict(options.released))
    net = load_released(options.released)
    save_checkpoint({"params": net.state_dict(), "network_g": network}, options.out)
    print(f"wrote {options.out}; use it with path.pretrain_network_g and this network_g:\n")
    print(yaml.safe_dump({"network_g": network}, sort_keys=False), end="")
    return 0
