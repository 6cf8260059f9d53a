"""What holds of every option file that `rnan options` prints."""

from __future__ import annotations

from typing import Any

import pytest
import yaml

import rnan_plugin.training.connect  # noqa: F401 - BasicSR has to know the plugin
from rnan_plugin.errors import UserError
from rnan_plugin.training.launcher import _derive_paths
from rnan_plugin.training.option_check import check_option_file
from rnan_plugin.training.option_doubts import doubts


def check_printed_options(text: str) -> dict[str, Any]:
    """The file passes the checks up to data and weights, which aren't there; its content, as training would see it."""
    opt: dict[str, Any] = yaml.safe_load(text)
    opt |= {"is_train": "train" in opt, "dist": False, "rank": 0, "world_size": 1, "auto_resume": False}
    _derive_paths(opt)
    with pytest.raises(UserError) as error:
        check_option_file(opt, "mine.yml")
    missing = ("dataroot_gt: datasets/", "path.pretrain_network_g: ")
    assert [line for line in str(error.value).splitlines() if not any(key in line for key in missing)] == []
    assert list(doubts(opt)) == []  # no warning either, once the data are there
    return opt
