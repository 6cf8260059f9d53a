"""Gives BasicSR what it gets from the plugin; importing this module does it.

Its registries learn the plugin's classes, and its scripts the plugin's way to read option files and to train the
plugin's model. BasicSR of another version than the plugin knows keeps its own ways.
"""

from __future__ import annotations

import argparse
from typing import Any

import rnan_plugin.toolbox.networks
import rnan_plugin.training.metrics  # noqa: F401 - both register what they hold
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.errors import exit_status
from rnan_plugin.toolbox.api import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY, basicsr
from rnan_plugin.toolbox.compat import (
    TOOLBOX_VERSION,
    replace_parse_options,
    replace_train_pipeline,
)
from rnan_plugin.training import launcher
from rnan_plugin.training.loop import train
from rnan_plugin.training.model import RestorationModel

ARCH_REGISTRY.register(RNAN)
DATASET_REGISTRY.register(RestorationDataset)
MODEL_REGISTRY.register(RestorationModel)


def _train_as_script(opt: dict[str, Any], args: argparse.Namespace) -> int:
    """What `python basicsr/train.py` does with the options of the plugin's model: the same as `rnan train`."""
    try:
        return exit_status(lambda: train(opt, args.opt, launcher.load_resume_state(opt)))
    finally:
        launcher.leave_processes()


if basicsr.__version__ == TOOLBOX_VERSION:
    replace_parse_options(launcher.parse_options)
    replace_train_pipeline(_train_as_script, RestorationModel.__name__)
