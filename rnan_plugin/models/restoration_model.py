"""Training and validation of restoration networks on top of the toolbox's `SRModel`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.parallel import DataParallel, DistributedDataParallel

from rnan_plugin.models.inference import Policy, restore
from rnan_plugin.toolbox import SRModel, get_root_logger

_PANEL_SIZE = 256  # pixels; larger images show their centre


class RestorationModel(SRModel):
    """The toolbox's `SRModel`, with what restoration of whole images needs.

    Adds to it: distributed training without GPUs; validation through the bare network by the policy of the `val`
    section (`policy`, `tile`, `tile_overlap`, `tile_batch`, `self_ensemble`: `rnan_plugin.models.inference.Policy`);
    panels of input, output and ground truth of the first `val.num_panel` images of each set in TensorBoard.

    Args:
        opt: The whole option file, as the toolbox parsed it.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self._panels: list[Tensor] = []
        self._used: dict[str, int] = {}  # how images were restored -> how many
        self._policy = policy_of(opt.get("val") or {})
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move to the device and wrap for several processes or GPUs; without GPUs too, unlike the toolbox."""
        # Channels-last: the same numbers, 1.4 times as fast on a CPU (16 to 64 features).
        net = net.to(self.device).to(memory_format=torch.channels_last)
        if self.opt["dist"]:
            on_gpu = self.device.type == "cuda"
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                find_unused_parameters=self.opt.get("find_unused_parameters", False),
                # The only buffers are constants; exchanging them would put a collective into every forward pass.
                broadcast_buffers=False,
            )
        return DataParallel(net) if self.opt["num_gpu"] > 1 else net

    def test(self) -> None:
        """Restore `self.lq` (B, C, H, W) into `self.output`, on the bare network, so that no other rank is needed."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        self.output, used = restore(net, self.lq, self._policy)
        net.train(was_training)
        self._used[used.describe()] = self._used.get(used.describe(), 0) + 1
        if len(self._panels) < (self.opt.get("val") or {}).get("num_panel", 3) and hasattr(self, "gt"):
            self._panels.append(make_panel(self.lq, self.output, self.gt))

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate as the toolbox does, say how the images were restored, and show the first in TensorBoard."""
        self._panels, self._used = [], {}
        super().nondist_validation(dataloader, current_iter, tb_logger, save_img)
        for how, count in self._used.items():
            get_root_logger().info(f"{dataloader.dataset.opt['name']}: {count} image(s) restored with policy {how}")
        if tb_logger:
            for index, panel in enumerate(self._panels):
                tag = f"{dataloader.dataset.opt['name']}/{index:02d}_input_output_gt"
                tb_logger.add_image(tag, panel, current_iter)


def policy_of(val: Mapping[str, Any]) -> Policy:
    """The policy of an option file's `val` section; keys left out have `Policy`'s defaults.

    Raises:
        UserError: A value outside its legal interval.
    """
    names = {
        "policy": "name",
        "tile": "tile",
        "tile_overlap": "overlap",
        "tile_batch": "tile_batch",
        "self_ensemble": "self_ensemble",
    }
    return Policy(**{name: val[key] for key, name in names.items() if key in val})


def make_panel(lq: Tensor, output: Tensor, gt: Tensor) -> Tensor:
    """Input (enlarged to the output's size), output and ground truth side by side, their centre if large.

    Args:
        lq: (1, C, h, w), 0..1.
        output: (1, C, H, W), H and W multiples of h and w.
        gt: (1, C, H, W).

    Returns:
        (C, min(H, 256), 3 * min(W, 256)), clipped to 0..1.
    """
    enlarged = F.interpolate(lq, size=gt.shape[2:], mode="nearest")
    top, left = (max(0, (length - _PANEL_SIZE) // 2) for length in gt.shape[2:])
    parts = [img[0, :, top : top + _PANEL_SIZE, left : left + _PANEL_SIZE] for img in (enlarged, output, gt)]
    return torch.cat(parts, dim=2).clamp(0, 1).cpu()
