"""Validation of restoration networks: images shared among processes, scored, and shown in TensorBoard."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor
from torch import distributed as dist
from torch.utils.data import DataLoader, Subset

from rnan_plugin.errors import UserError, said_by
from rnan_plugin.files import atomic_path, shortened
from rnan_plugin.images.codec import encode_png
from rnan_plugin.inference.policy import policy_of
from rnan_plugin.inference.whole_images import restore
from rnan_plugin.progress import FileProgress
from rnan_plugin.toolbox.api import SRModel, calculate_metric, get_root_logger, tensor2img
from rnan_plugin.training.best import note, row_to_go_on_with
from rnan_plugin.training.endings import ENDED_WITH_ANOTHER
from rnan_plugin.training.loaders import Told, read_from

_PANEL_SIZE = 256  # pixels; larger images show their centre
# Ranks wait for each other's validation images, however long one takes.
_PATIENCE = timedelta(days=30)


class ValidatedModel(SRModel):
    """The toolbox's `SRModel` with validation through the bare network, by a policy, shared among the processes.

    Args:
        opt: The whole option file, as the toolbox parsed it.
    """

    best_metric_results: dict[str, Any]

    def __init__(self, opt: dict[str, Any]) -> None:
        self.should_stop: Callable[[], bool] = lambda: False  # asked between validation images
        self._policy = policy_of(opt.get("val") or {})
        # Reductions of Python objects must not wait in a GPU's queue, nor run into its time-out.
        self.control_group: Any = dist.new_group(backend="gloo", timeout=_PATIENCE) if opt["dist"] else None
        super().__init__(opt)

    def test(self) -> None:
        """Restore `self.lq` (B, C, H, W) into `self.output`, on the bare network, so that no other rank is needed."""
        net = self.net_g_ema if hasattr(self, "net_g_ema") else self.get_bare_model(self.net_g)
        was_training = net.training
        net.eval()
        try:
            self.output, used = restore(net, self.lq, self._policy)
        finally:
            net.train(was_training)
        self._how = used.describe()

    def dist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate, each process on its share of the images; the metrics are those of one process, to the last bit."""
        self._validate(dataloader.dataset, current_iter, tb_logger, save_img)

    def nondist_validation(self, dataloader: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        """Validate in one process."""
        self._validate(dataloader.dataset, current_iter, tb_logger, save_img)

    def _validate(self, dataset: Any, current_iter: int, tb_logger: Any, save_img: bool) -> None:
        parts: list[Any] = [self._own_share(dataset, current_iter, save_img)]
        if self.control_group is not None:
            own, parts = parts[0], [None] * self.opt["world_size"]
            dist.all_gather_object(parts, own, group=self.control_group)
        if any(isinstance(part, UserError) for part in parts):  # all end: none waits for another
            own = parts[self.opt["rank"]]
            raise own if isinstance(own, UserError) else SystemExit(ENDED_WITH_ANOTHER)
        images = sorted((image for part in parts for image in part), key=lambda image: image["index"])
        if len(images) < len(dataset):  # asked to stop
            return
        name = dataset.opt["name"]
        for how in dict.fromkeys(image["how"] for image in images):
            count = sum(image["how"] == how for image in images)
            get_root_logger().info(f"{name}: {count} image(s) restored with policy {how}")
        if self.opt["val"].get("metrics"):
            self._record_metrics(name, images, current_iter, tb_logger)
        if tb_logger:
            for image in (image for image in images if image["panel"] is not None):
                tb_logger.add_image(f"{name}/{image['index']:02d}_input_output_gt", image["panel"], current_iter)

    def _own_share(self, dataset: Any, current_iter: int, save_img: bool) -> list[dict[str, Any]] | UserError:
        try:
            return list(self._counted(self._restore_share(dataset, current_iter, save_img), dataset))
        except UserError as error:
            return error

    def _counted(self, images: Iterator[dict[str, Any]], dataset: Any) -> Iterator[dict[str, Any]]:
        """Tell how far the first process is with its share, unless `val.pbar` is false."""
        if self.opt["rank"] or not (self.opt.get("val") or {}).get("pbar", True):
            yield from images
            return
        with FileProgress(-(-len(dataset) // self.opt["world_size"]), dataset.opt["name"]) as progress:
            for image in images:
                yield image
                progress.step()

    def _restore_share(self, dataset: Any, current_iter: int, save_img: bool) -> Iterator[dict[str, Any]]:
        """Restore and score this process's images, one in so many; ends early if asked to stop."""
        indices = range(self.opt["rank"], len(dataset), self.opt["world_size"])
        where = f"datasets, {dataset.opt['name']}"
        loader = DataLoader(Subset(Told(dataset, where), indices), batch_size=1)
        for index, data in zip(indices, read_from(loader, where), strict=True):
            if self.should_stop():
                return
            self.feed_data(data)
            self.test()
            has_gt = "gt" in data
            images = {"img": tensor2img([self.output.detach().cpu()])}
            if has_gt:
                images["img2"] = tensor2img([self.gt.detach().cpu()])
            if save_img:
                self._save_image(images["img"], self._image_file(dataset.opt, data["lq_path"][0], current_iter))
            wanted = has_gt and index < (self.opt.get("val") or {}).get("num_panel", 3)
            metrics = (self.opt.get("val") or {}).get("metrics") or {}
            yield {
                "index": index,
                "how": self._how,
                "metrics": {metric: _score(images, settings) for metric, settings in metrics.items()},
                "panel": make_panel(self.lq, self.output, self.gt) if wanted else None,
            }
            del self.lq, self.output  # the next image needs the memory
            if has_gt:
                del self.gt

    def _save_image(self, image: NDArray[np.uint8], file: Path) -> None:
        """Write a restored image; in a training, a full disk costs the image alone."""
        try:
            _write_png(image, file)
        except (OSError, UserError) as error:
            if not self.opt["is_train"]:
                raise UserError(f"{file}: can't be written ({error}); free disk space or check the folder") from None
            get_root_logger().warning(f"{file}: can't be written ({error}); training goes on without this image")

    def _image_file(self, dataset: Mapping[str, Any], lq_path: str, current_iter: int) -> Path:
        """Where a restored image is saved: as BasicSR does, and below the folders that the image has in its set.

        In a training that validates on several sets, each has a folder. Names are cut where a file system needs it.
        """
        folder, image = Path(self.opt["path"]["visualization"]), place_in_set(lq_path, dataset)
        if not self.opt["is_train"] or len(self._set_names()) > 1:
            folder /= dataset["name"]
        if self.opt["is_train"]:
            return folder / image / shortened(image.name, f"_{current_iter}.png")
        return (
            folder / image.parent / shortened(image.name, f"_{self.opt['val'].get('suffix') or self.opt['name']}.png")
        )

    def _set_names(self) -> list[str]:
        """Names of the sets that the option file validates on, in its order."""
        return [entry.get("name", phase) for phase, entry in self.opt.get("datasets", {}).items() if phase != "train"]

    def _record_metrics(self, name: str, images: list[dict[str, Any]], current_iter: int, tb_logger: Any) -> None:
        self._initialize_best_metric_results(name)
        metrics = self.opt["val"]["metrics"]
        scores = {metric: [image["metrics"][metric] for image in images] for metric in metrics}
        self.metric_results = {metric: _mean(metric, values, name) for metric, values in scores.items()}
        for metric, value in self.metric_results.items():
            self._update_best_metric_result(name, metric, value, current_iter)
        if self.opt["rank"] == 0:
            self._log_validation_metric_values(current_iter, name, tb_logger)
        place = self._deciding() if self.is_train else None
        if place and place[0] == name and self.best_metric_results[name][place[1]]["iter"] == current_iter:
            self._save_best()

    def _deciding(self) -> tuple[str, str] | None:
        """Set and metric that the best weights are chosen by: of several sets, the first of the option file."""
        metric, names = (self.opt.get("logger") or {}).get("save_best"), self._set_names()
        return (names[0], metric) if metric and names else None

    def take_over_best(self, best: Mapping[str, Any]) -> None:
        """Go on with a training state's record of the best, as far as it agrees with the weights; on every process."""
        self.best_metric_results = deepcopy(dict(best))
        place = self._deciding()
        if place is None or self.opt["rank"] != 0:  # the first process writes record and weights
            return
        row = row_to_go_on_with(Path(self.opt["path"]["models"]), place, best.get(place[0], {}).get(place[1]))
        of_set = self.best_metric_results.setdefault(place[0], {})
        of_set.pop(place[1], None)
        if row is not None:
            of_set[place[1]] = row

    def note_of_best(self) -> dict[str, Any]:
        """What the best weights that are being saved are the best of; nothing where that is not known."""
        place = self._deciding()
        return note(place, self.best_metric_results[place[0]][place[1]]) if place else {}

    def _initialize_best_metric_results(self, dataset_name: str) -> None:
        """Begin a set's record of its best; on resuming, of metrics alone that the training state does not know."""
        before = getattr(self, "best_metric_results", {})
        self.best_metric_results = {}
        super()._initialize_best_metric_results(dataset_name)
        fresh = self.best_metric_results[dataset_name]
        known = {key: row for key, row in before.get(dataset_name, {}).items() if key in fresh}
        self.best_metric_results = before | {dataset_name: fresh | known}

    def _save_best(self) -> None:
        ema = [self.net_g_ema] if hasattr(self, "net_g_ema") else []
        try:
            self.save_network([self.net_g, *ema], "net_g", "best", ["params", "params_ema"][: 1 + len(ema)])
        except UserError as error:
            get_root_logger().error(f"{error}; the best weights were not saved, training goes on")


def _score(images: dict[str, NDArray[np.uint8]], settings: Mapping[str, Any]) -> float | str:
    """One metric of one image; why there is none, where a metric can't judge the image: that ends no training."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", RuntimeWarning)  # of NumPy, on what is no number: told below
            # A plain number: a training state may hold nothing that has to be executed to be read.
            value = float(calculate_metric(images, settings))
    except Exception as error:  # of any library that a metric is computed with
        return said_by(error)
    return "not a number" if math.isnan(value) else value


def _mean(metric: str, values: Sequence[float | str], name: str) -> float:
    """The mean over the images of a set that have a number, which the others are told from; nan if none has."""
    numbers = [value for value in values if not isinstance(value, str)]
    reasons = Counter(value for value in values if isinstance(value, str))
    for reason, count in reasons.items():
        get_root_logger().warning(
            f"{name}: no {metric} of {count} of {len(values)} image(s) ({reason}); "
            + ("the mean is that of the others" if numbers else "it is nan, and nothing is best by it")
        )
    return sum(numbers) / len(numbers) if numbers else math.nan


def _write_png(img: NDArray[np.uint8], file: Path) -> None:
    """Write (H, W, 3) BGR or (H, W) grey, 0..255. OpenCV's own writer dies of names that are no UTF-8."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(file) as temporary:
        temporary.write_bytes(encode_png(img[..., None] if img.ndim == 2 else np.ascontiguousarray(img[..., ::-1])))


def place_in_set(path: str, dataset: Mapping[str, Any]) -> Path:
    """An image's path below its set, without ending: two images of one name stay apart.

    Args:
        path: Of the image; an LMDB's is `ROOT/KEY.png`.
        dataset: An entry of `datasets`.
    """
    roots = [root for key in ("dataroot_lq", "dataroot_gt") if isinstance(root := dataset.get(key), str)]
    found = (Path(path).relative_to(root) for root in roots if Path(path).is_relative_to(root))
    return next(found, Path(Path(path).name)).with_suffix("")


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
