"""The names of BasicSR that the plugin uses; nowhere else is it imported.

Importing `rnan_plugin` has already arranged for the import to be cured (see `rnan_plugin.startup`).
"""

from __future__ import annotations

from rnan_plugin.errors import UserError
from rnan_plugin.toolbox import compat

try:
    import basicsr
except ModuleNotFoundError as error:
    if error.name != "basicsr":  # something that BasicSR imports
        raise
    raise UserError(f"this needs BasicSR, which is not installed: {compat.INSTALL} adds it") from None

import basicsr.test
import basicsr.train
import basicsr.utils.options
from basicsr.archs.srresnet_arch import MSRResNet
from basicsr.data import build_dataloader, build_dataset
from basicsr.data.paired_image_dataset import PairedImageDataset
from basicsr.metrics import calculate_metric, calculate_psnr, calculate_ssim
from basicsr.metrics.metric_util import to_y_channel
from basicsr.models import build_model
from basicsr.models.sr_model import SRModel
from basicsr.utils import (
    MessageLogger,
    check_resume,
    get_env_info,
    get_root_logger,
    get_time_str,
    init_wandb_logger,
    make_exp_dirs,
    mkdir_and_rename,
    set_random_seed,
    tensor2img,
)
from basicsr.utils.dist_util import get_dist_info
from basicsr.utils.dist_util import init_dist as stock_init_dist
from basicsr.utils.lmdb_util import make_lmdb_from_imgs
from basicsr.utils.matlab_functions import imresize
from basicsr.utils.options import copy_opt_file, dict2str
from basicsr.utils.registry import (
    ARCH_REGISTRY,
    DATASET_REGISTRY,
    LOSS_REGISTRY,
    METRIC_REGISTRY,
    MODEL_REGISTRY,
)

compat.after_import()  # where the toolbox was imported before the plugin

__all__ = [
    "ARCH_REGISTRY",
    "DATASET_REGISTRY",
    "LOSS_REGISTRY",
    "METRIC_REGISTRY",
    "MODEL_REGISTRY",
    "MSRResNet",
    "MessageLogger",
    "PairedImageDataset",
    "SRModel",
    "basicsr",
    "build_dataloader",
    "build_dataset",
    "build_model",
    "calculate_metric",
    "calculate_psnr",
    "calculate_ssim",
    "check_resume",
    "copy_opt_file",
    "dict2str",
    "get_dist_info",
    "get_env_info",
    "get_root_logger",
    "get_time_str",
    "imresize",
    "init_wandb_logger",
    "make_exp_dirs",
    "make_lmdb_from_imgs",
    "mkdir_and_rename",
    "set_random_seed",
    "stock_init_dist",
    "tensor2img",
    "to_y_channel",
]
