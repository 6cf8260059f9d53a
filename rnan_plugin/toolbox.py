"""The one seam to BasicSR: what the plugin uses of it is named here.

Importing `rnan_plugin` has already arranged for the import to be cured (see `rnan_plugin.startup`).
"""

from __future__ import annotations

import inspect

import basicsr
import basicsr.test
import basicsr.train
import basicsr.utils.options
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.metrics import calculate_psnr, calculate_ssim
from basicsr.models.sr_model import SRModel
from basicsr.utils import check_resume, get_root_logger
from basicsr.utils.dist_util import init_dist as stock_init_dist
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

from rnan_plugin import cures

cures.after_import()  # where the toolbox was imported before the plugin

stock_parse_options = inspect.unwrap(basicsr.utils.options.parse_options)

__all__ = [
    "ARCH_REGISTRY",
    "DATASET_REGISTRY",
    "LOSS_REGISTRY",
    "METRIC_REGISTRY",
    "MODEL_REGISTRY",
    "PairedImageDataset",
    "SRModel",
    "basicsr",
    "calculate_psnr",
    "calculate_ssim",
    "check_resume",
    "get_root_logger",
    "make_lmdb_from_imgs",
    "stock_init_dist",
    "stock_parse_options",
]
