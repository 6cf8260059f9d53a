"""Gives BasicSR what it gets from the plugin; importing this module does it.

Its registries learn the plugin's classes, and its scripts the plugin's way to read option files and to resume. BasicSR
of another version than the plugin knows keeps its own ways.
"""

from __future__ import annotations

import rnan_plugin.toolbox.networks  # noqa: F401 - registers itself
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.toolbox.api import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY, basicsr
from rnan_plugin.toolbox.compat import TOOLBOX_VERSION, replace_load_resume_state, replace_parse_options
from rnan_plugin.training import launcher
from rnan_plugin.training.model import RestorationModel

ARCH_REGISTRY.register(RNAN)
DATASET_REGISTRY.register(RestorationDataset)
MODEL_REGISTRY.register(RestorationModel)
if basicsr.__version__ == TOOLBOX_VERSION:
    replace_parse_options(launcher.parse_options)
    replace_load_resume_state(launcher.load_resume_state, RestorationModel.__name__)
