"""What a training reads: its data loaders, and batches of them; an image that can't be read is told in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from torch.utils.data import DataLoader, Dataset

from rnan_plugin.data.sampler import DrawSampler, SeededDraws
from rnan_plugin.errors import UserError, said_by, shown
from rnan_plugin.toolbox.api import build_dataloader, build_dataset, get_root_logger
from rnan_plugin.training.data_workers import ignore_signals, said_by_worker


class Told(Dataset[Any]):
    """A data set, also one of BasicSR's or of a user's, that says in one line which image it can't read.

    Args:
        dataset: Any; its `paths`, if it has them, name its images.
        where: Its place, for messages.
    """

    def __init__(self, dataset: Dataset[Any], where: str) -> None:
        self.dataset = dataset
        self.where = where

    def __len__(self) -> int:
        return len(self.dataset)  # type: ignore[arg-type]

    def __getitem__(self, index: int) -> Any:
        try:
            return self.dataset[index]
        except UserError:
            raise
        except Exception as error:  # of any set, also one that a user registered
            paths = getattr(self.dataset, "paths", None)
            image = shown(paths[index]) if isinstance(paths, list) and index < len(paths) else f"image {index}"
            raise UserError(f"{self.where}: {_said(error)} at {image}; check the image") from None


def read_from(loader: Iterable[Any], where: str) -> Iterator[Any]:
    """Yield the batches of a loader.

    Args:
        loader: Of a `Told` set.
        where: Its place, for messages.

    Raises:
        UserError: Whatever keeps a batch from being read, in this process or in a data worker.
    """
    try:
        yield from loader
    except Exception as error:
        told = said_by_worker(error)
        if told is None and isinstance(error, UserError):
            raise
        raise UserError(told or f"{where}: no batch can be made ({_said(error)}); check the images") from None


def _said(error: Exception) -> str:
    """The kind of an error and what it says; of one that a data worker met, without its traceback."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Caught "):
        return lines[-1].strip()[:200]
    return f"{type(error).__name__}: {said_by(error)}"


def make_loaders(opt: dict[str, Any], state: Mapping[str, Any] | None) -> tuple[DataLoader[Any], list[DataLoader[Any]]]:
    """The training set from the state's draw on, and the validation sets."""
    val_loaders = []
    for phase, options in opt["datasets"].items():
        dataset = build_dataset(options)
        if phase != "train":
            val_loaders.append(build_dataloader(dataset, options, num_gpu=opt["num_gpu"], seed=opt["manual_seed"]))
            continue
        batch = options["batch_size_per_gpu"]
        first = first_draw(opt, state)
        steps = max(0, int(opt["train"]["total_iter"]) - (state["iter"] if state else 0))
        last = first + steps * samples_per_step(opt)
        place = {"rank": opt["rank"], "world_size": opt["world_size"]}
        train_loader = DataLoader(
            SeededDraws(Told(dataset, "datasets.train"), opt["manual_seed"]),
            batch_size=batch,
            sampler=DrawSampler(len(dataset), opt["manual_seed"], first, last, **place),
            num_workers=options["num_worker_per_gpu"],
            pin_memory=options.get("pin_memory", False),
            worker_init_fn=ignore_signals,
            drop_last=True,
        )
        get_root_logger().info(f"Training statistics: {len(dataset)} images, batch {batch} × {opt['world_size']}")
    return train_loader, val_loaders


def first_draw(opt: Mapping[str, Any], state: Mapping[str, Any] | None) -> int:
    """Number of the sample that a training goes on with."""
    if state is None:
        return 0
    return int(state.get("draws", state["iter"] * samples_per_step(opt)))  # states of the stock script know no draws


def samples_per_step(opt: Mapping[str, Any]) -> int:
    """Samples of one iteration of all processes together."""
    return int(opt["datasets"]["train"]["batch_size_per_gpu"] * opt["world_size"])
