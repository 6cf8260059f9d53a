"""Importing this module registers the plugin's classes in the toolbox."""

from __future__ import annotations

from rnan_plugin.toolbox.networks import MSRResNetX1
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.data.restoration_dataset import RestorationDataset
from rnan_plugin.training.model import RestorationModel
from rnan_plugin.toolbox.api import ARCH_REGISTRY, DATASET_REGISTRY, MODEL_REGISTRY

ARCH_REGISTRY.register(RNAN)
ARCH_REGISTRY.register(MSRResNetX1)
DATASET_REGISTRY.register(RestorationDataset)
MODEL_REGISTRY.register(RestorationModel)
