"""Training of restoration networks on top of the toolbox's `SRModel`."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch import distributed as dist
from torch.nn.parallel import DataParallel, DistributedDataParallel

from rnan_plugin import device as devices
from rnan_plugin.archs.official_weights import pretrained_weights
from rnan_plugin.checkpoints import USUAL_KEYS, fill, save_checkpoint
from rnan_plugin.errors import UserError
from rnan_plugin.toolbox.api import get_root_logger
from rnan_plugin.training.optimisers import build_optimiser, is_schedule_free, take_over, write_average
from rnan_plugin.training.schedule import resume_schedules
from rnan_plugin.training.states import mark_saved, remove_old
from rnan_plugin.training.step import step_options
from rnan_plugin.training.validation import ValidatedModel


class RestorationModel(ValidatedModel):
    """The toolbox's `SRModel`, with what training for days and restoring whole images need.

    Adds to it the options of the `train` section in `rnan_plugin.training.step.StepOptions`, steps skipped
    where loss or gradient is not finite, `device`, and distributed training without GPUs; validation shared among the
    processes, through the bare network, by the policy of the `val` section (`policy`, `tile`, `tile_overlap`,
    `attention_window`, `tile_batch`, `self_ensemble`: `rnan_plugin.inference.policy.Policy`), with panels of the first
    `val.num_panel` images of each set in TensorBoard; checkpoints that are whole or not there, of which
    `logger.keep_last` stay, and the best by the metric `logger.save_best`.

    Args:
        opt: The whole option file, as the toolbox parsed it.
    """

    def __init__(self, opt: dict[str, Any]) -> None:
        self.options_as_read = deepcopy({key: value for key, value in opt.items() if key in _RECORDED})
        self.skipped_steps = 0
        self._skipped_in_a_row = 0
        self._names: list[str] = []
        # What the loop counts, for the training state: "draws" and "validated". BasicSR's own loop counts neither.
        self.progress: dict[str, int] = {}
        self.saved = -1  # last iteration that was
        self.mid_step = False  # whether weights, optimiser and average are of no iteration: not to be saved
        self._step = step_options(opt.get("train") or {})
        super().__init__(opt)

    def model_to_device(self, net: nn.Module) -> nn.Module:
        """Move to the device and wrap for several processes or GPUs; without GPUs too, unlike the toolbox."""
        self.device = devices.choose(self.opt.get("device") or "auto", gpu=self.opt["num_gpu"] != 0)
        # Channels-last: the same numbers, 1.4 times as fast on a CPU (16 to 64 features).
        net = net.to(self.device).to(memory_format=torch.channels_last)
        if self._step.checkpoint_blocks:
            _require(net, "checkpoint_blocks", "checkpoint_blocks")
            net.checkpoint_blocks = True  # type: ignore[assignment]
        if self._step.identity_start:
            _require(net, "start_as_identity", "identity_start")
            net.start_as_identity()  # type: ignore[operator]
        if self.opt["dist"]:
            on_gpu = self.device.type == "cuda"
            return DistributedDataParallel(
                net,
                device_ids=[torch.cuda.current_device()] if on_gpu else None,
                find_unused_parameters=self.opt.get("find_unused_parameters", False),
                # The only buffers are constants; exchanging them would put a collective into every forward pass.
                broadcast_buffers=False,
            )
        return DataParallel(net) if self.opt["num_gpu"] > 1 and self.device.type == "cuda" else net

    def init_training_settings(self) -> None:
        """See `SRModel`; the compiled form of the network is for training alone, where sizes do not vary."""
        devices.choose_kernels(reproducible=self.opt.get("deterministic") is True)
        super().init_training_settings()
        if is_schedule_free(self.optimizer_g):  # the toolbox validates and saves what is called so
            self.net_g_ema = deepcopy(self.get_bare_model(self.net_g)).eval()
        self._train_net = torch.compile(self.net_g) if self._step.compile else self.net_g
        self._scaler = self._step.scaler(self.device)
        self._step.tell_precision(self.device)

    def get_optimizer(self, optim_type: str, params: list[nn.Parameter], **arguments: Any) -> torch.optim.Optimizer:
        """The optimiser of `train.optim_g`, of which the toolbox knows Adam alone."""
        return build_optimiser(optim_type, params, arguments, self.get_bare_model(self.net_g), self._step.mask_lr_mult)

    def setup_schedulers(self) -> None:
        """See `SRModel`; a schedule-free optimiser has none."""
        if self.opt["train"].get("scheduler"):
            super().setup_schedulers()

    def get_current_learning_rate(self) -> list[float]:
        """The rate of each group, of a schedule-free optimiser in its warm-up too."""
        return [group.get("scheduled_lr", group["lr"]) for group in self.optimizer_g.param_groups]

    def validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool = False) -> None:
        """See `SRModel`; of a schedule-free optimiser the average."""
        self._average()
        super().validation(dataloader, current_iter, tb_logger, save_img)

    def _average(self) -> None:
        if self.is_train and is_schedule_free(self.optimizer_g):
            write_average(self.optimizer_g, self.get_bare_model(self.net_g), self.net_g_ema)

    def feed_data(self, data: dict[str, Any]) -> None:
        """Take over a batch: `lq` (B, C, h, w) and `gt` (B, C, H, W), if any, in 0..1."""
        self.lq = data["lq"].to(self.device, non_blocking=True)
        if "gt" in data:
            self.gt = data["gt"].to(self.device, non_blocking=True)
        self._names = list(data.get("gt_path", data.get("lq_path", [])))

    def optimize_parameters(self, current_iter: int) -> None:
        """Make one step; skip it where loss or gradient is not finite.

        Raises:
            UserError: More than `train.skip_limit` steps in a row were skipped.
        """
        self.optimizer_g.zero_grad()
        losses = self.reduce_loss_dict(self._backward())
        self._scaler.unscale_(self.optimizer_g)
        norm = nn.utils.clip_grad_norm_(self.net_g.parameters(), self._step.clip_grad_norm or float("inf")).item()
        if torch.tensor([norm, *losses.values()]).isfinite().all():
            self._skipped_in_a_row, self.mid_step = 0, True
            self._scaler.step(self.optimizer_g)
            if self.ema_decay > 0:
                self.model_ema(decay=self.ema_decay)
            self.mid_step = False
        else:
            self._skip(current_iter, losses, norm)
        self._scaler.update()
        self.log_dict = {**losses, "grad_norm": norm, "skipped_steps": self.skipped_steps}

    def _backward(self) -> dict[str, Tensor]:
        """Gradients of the batch, part by part; the mean losses."""
        lqs, gts = self.lq.chunk(self._step.accumulate), self.gt.chunk(self._step.accumulate)
        sums: dict[str, Tensor] = {}
        for index, (lq, gt) in enumerate(zip(lqs, gts, strict=True)):
            share = len(lq) / len(self.lq)
            with self._gradients_stay_here(index < len(lqs) - 1):
                with self._step.autocast(self.device):
                    output = self._train_net(lq)
                losses = self._losses(output.float(), gt)
                self._scaler.scale(torch.stack(list(losses.values())).sum() * share).backward()
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0) + loss.detach() * share
        return sums

    def _gradients_stay_here(self, wanted: bool) -> AbstractContextManager[None]:
        """Keep gradients of a part of the batch from being exchanged with other processes."""
        return self.net_g.no_sync() if wanted and isinstance(self.net_g, DistributedDataParallel) else nullcontext()

    def _losses(self, output: Tensor, gt: Tensor) -> dict[str, Tensor]:
        losses = {}
        if self.cri_pix:
            losses["l_pix"] = self.cri_pix(output, gt)
        if self.cri_perceptual:
            named = zip(("l_percep", "l_style"), self.cri_perceptual(output, gt), strict=True)
            losses |= {name: loss for name, loss in named if loss is not None}
        return losses

    def reduce_loss_dict(self, loss_dict: Mapping[str, Tensor]) -> dict[str, float]:
        """Mean over the processes, known to all of them (the toolbox's is right on the first alone)."""
        losses = torch.stack([loss.mean() for loss in loss_dict.values()])
        if self.opt["dist"]:
            dist.all_reduce(losses)
            losses /= self.opt["world_size"]
        return dict(zip(loss_dict, losses.tolist(), strict=True))

    def _skip(self, current_iter: int, losses: Mapping[str, float], norm: float) -> None:
        self.skipped_steps += 1
        self._skipped_in_a_row += 1
        # An infinite gradient is how the scaler of float16 finds its scale.
        what = ", ".join(f"{name} {value:.4g}" for name, value in {**losses, "gradient norm": norm}.items())
        get_root_logger().warning(f"iter {current_iter}: step skipped, {what}; images: {', '.join(self._names)}")
        if self._skipped_in_a_row > self._step.skip_limit:
            raise UserError(
                f"iter {current_iter}: loss or gradient was not finite for {self._skipped_in_a_row} steps in a row "
                f"({what}); lower train.optim_g.lr, set train.clip_grad_norm, or take precision: float32"
            )

    def model_ema(self, decay: float = 0.999) -> None:
        """Average the parameters as the toolbox does, and copy the buffers, which it forgets."""
        super().model_ema(decay)
        net = self.get_bare_model(self.net_g)
        for average, buffer in zip(self.net_g_ema.buffers(), net.buffers(), strict=True):
            average.copy_(buffer)

    def update_learning_rate(self, current_iter: int, warmup_iter: int = -1) -> None:
        """Set the learning rate of an iteration; the warm-up leaves no trace in the schedule that follows it."""
        for optimizer, scheduler in zip(self.optimizers, self.schedulers, strict=bool(self.schedulers)):
            for group, rate in zip(optimizer.param_groups, scheduler.get_last_lr(), strict=True):
                group["lr"] = rate
        super().update_learning_rate(current_iter, warmup_iter)

    def save_network(
        self, net: nn.Module | list[nn.Module], net_label: str, current_iter: int | str, param_key: Any = "params"
    ) -> None:
        """Save networks as the toolbox does, whole or not at all; on the first process."""
        if self.opt["rank"] != 0:
            return
        nets, keys = (net, param_key) if isinstance(net, list) else ([net], [param_key])
        weights: dict[str, Any] = {
            key: {name: value.detach().cpu() for name, value in self.get_bare_model(module).state_dict().items()}
            for module, key in zip(nets, keys, strict=True)
        }
        weights["network_g"] = dict(self.opt["network_g"])  # so that the file alone can be restored from
        weights |= self.note_of_best() if current_iter == "best" else {}
        name = "latest" if current_iter == -1 else current_iter
        save_checkpoint(weights, Path(self.opt["path"]["models"]) / f"{net_label}_{name}.pth")

    def save_training_state(self, epoch: int, current_iter: int) -> None:
        """Save what the toolbox does, and what an exact resume needs; whole or not at all; on the first process."""
        if current_iter == -1 or self.opt["rank"] != 0:
            return
        state = {
            "epoch": epoch,
            "iter": current_iter,
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
            "schedulers": [scheduler.state_dict() for scheduler in self.schedulers],
            "scaler": self._scaler.state_dict(),
            **self.progress,
            "best": getattr(self, "best_metric_results", {}),
            "skipped_steps": self.skipped_steps,
            "options": self.options_as_read,
        }
        states = Path(self.opt["path"]["training_states"])
        save_checkpoint(state, states / f"{current_iter}.state")
        mark_saved(states.parent)

    def save(self, epoch: int, current_iter: int) -> None:
        """Save networks, then the training state, and remove old ones; a full disk does not end a training.

        Raises:
            UserError: The weights of a finished training can't be written.
        """
        self._average()
        try:
            super().save(epoch, current_iter)
        except UserError as error:
            if current_iter == -1:
                raise
            get_root_logger().error(f"{error}; nothing was saved at iteration {current_iter}, training goes on")
            return
        if current_iter != -1:
            self.saved = current_iter
        keep = self.opt["logger"].get("keep_last")
        if keep is not None and self.opt["rank"] == 0:
            try:
                states, models = (Path(self.opt["path"][key]) for key in ("training_states", "models"))
                remove_old(states, models, keep, self.saved)
            except OSError as error:
                get_root_logger().warning(f"{error.filename}: can't be removed ({error.strerror}), training goes on")

    def update_training_state(self, epoch: int, current_iter: int) -> None:
        """Save the training state of an iteration anew, after its validation; a full disk does not end a training.

        Where the iteration could not be saved before, nothing is: a state is worth nothing without its weights.
        """
        if current_iter != self.saved:
            return
        try:
            self.save_training_state(epoch, current_iter)
        except UserError as error:
            get_root_logger().error(f"{error}; the state stays as it was before the validation, training goes on")

    def load_network(
        self, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
    ) -> None:
        """Load weights, as `pretrained_weights` finds them; pickled code in the file does not run.

        Raises:
            UserError: The file is damaged, or its weights are of another network.
        """
        named = (self.opt.get("path") or {}).get("param_key_g")
        # The toolbox asks for keys of its own where the file names none, and for an average beside any that it names.
        weights, key = pretrained_weights(load_path, param_key if named in USUAL_KEYS else named)
        net = self.get_bare_model(net)
        if net is getattr(self, "net_g_ema", None):  # what the file does not have begins as what is averaged
            net.load_state_dict(self.get_bare_model(self.net_g).state_dict())
        told = fill(net, weights, load_path, strict=strict)
        logger = get_root_logger()
        log = logger.info if strict or self.is_train else logger.warning  # what a test does not load, nobody trained
        log(f"{load_path}, for {type(net).__name__}, key {key or '(none)'}: {told}")

    def resume_training(self, resume_state: dict[str, Any]) -> None:
        """Take over a training state; hyperparameters and schedule are the option file's, up to its iteration.

        What it says of the best is left to `take_over_best`, once it is known which weights of the run still count.
        """
        self.saved = reached = resume_state["iter"]
        try:
            for optimizer, saved in zip(self.optimizers, resume_state["optimizers"], strict=True):
                take_over(optimizer, saved)
            if resume_state.get("scaler"):
                self._scaler.load_state_dict(resume_state["scaler"])
        except (ValueError, LookupError, TypeError, AttributeError, RuntimeError):
            raise UserError(
                f"{self.opt['path'].get('resume_state')}: its optimizer or scaler does not fit the network, or "
                "train.optim_g or mask_lr_mult has changed; resume from another state"
            ) from None
        warm_up = self.opt["train"].get("warmup_iter", -1)
        resume_schedules(self.schedulers, reached, lambda: self.update_learning_rate(reached, warm_up))
        self.skipped_steps = resume_state.get("skipped_steps", 0)


# What of the option file a training state keeps, to tell on resuming what has changed.
_RECORDED = frozenset({"name", "model_type", "scale", "manual_seed", "device", "datasets", "network_g"}) | frozenset(
    {"train", "val", "logger", "find_unused_parameters", "deterministic"}
)


def _require(net: nn.Module, attribute: str, key: str) -> None:
    """Refuse a key of the `train` section that is about something which the network does not have."""
    if not hasattr(net, attribute):
        raise UserError(f"train.{key}: {type(net).__name__} has no such option; take it out")
