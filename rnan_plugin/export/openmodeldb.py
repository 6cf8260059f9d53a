"""A network's entry for OpenModelDB, the catalogue that chaiNNer's users look in: one JSON file a model."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import torch

from rnan_plugin import checkpoints
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import Loaded, load_network
from rnan_plugin.inference.shipped import ShippedNetwork, shipped_networks, training_spent
from rnan_plugin.paper.tasks import TASKS, TaskAtLevel

_PLATFORMS = {"pth": "pytorch", "safetensors": "pytorch", "onnx": "onnx"}  # by ending and type
_TAGS = {"awgn": ["denoise"], "jpeg": ["jpeg", "restoration"], "mosaic": ["restoration"], "bicubic": []}
_SHIPPED_LICENSE = "MIT"  # the plugin's


@dataclass(frozen=True)
class Listing:
    """What only its publisher knows of a model.

    Args:
        author: ID of a user of OpenModelDB.
        task: What the network is for; not needed for the package's own.
        license: SPDX expression; None is the plugin's for the package's networks, and no licence for others.
        url: Folder where the files lie; None leaves their addresses out.

    Raises:
        UserError: An author's ID that can't be one.
    """

    author: str
    task: TaskAtLevel | None = None
    license: str | None = None
    url: str | None = None

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", self.author):
            raise UserError(f"--author: {self.author!r} is no user's ID: small letters, digits, single hyphens between")


def openmodeldb_entry(loaded: Loaded, out: Path, listing: Listing) -> bytes:
    """Describe a network and its exported files as OpenModelDB does.

    Args:
        loaded: An RNAN; of the package's own the model card becomes the description.
        out: `SCALEx-NAME.json`: its stem is the model's ID, and the files beside it of that stem are to be downloaded.
        listing: What the publisher says.

    Returns:
        The JSON file's content.

    Raises:
        UserError: A name that can't be an ID, no file to download, one of another network, or nothing tells the task.
    """
    shipped = next((known for known in shipped_networks() if known.file.samefile(loaded.weights)), None)
    row = TASKS[shipped.task] if shipped else listing.task.row if listing.task else None
    if row is None:
        raise UserError(f"{loaded.weights}: does not say what it is for; name it with --task and --level")
    scale = _scale_of(loaded)
    if not re.fullmatch(rf"{scale}x(-[a-zA-Z0-9]+)+", out.stem):
        raise UserError(f"{out}: its name is the model's ID, {scale}x-NAME.json, of letters, digits and hyphens")
    channels = loaded.network["num_in_ch"]
    entry = {
        "name": out.stem,
        "author": listing.author,
        "license": listing.license or (_SHIPPED_LICENSE if shipped else None),
        "tags": sorted({"photo", *_TAGS.get(row.degradation, ["restoration"])}),
        "description": _card_of(shipped)
        if shipped
        else f"RNAN for {listing.task.title if listing.task else row.title}.",
        "date": datetime.now(tz=UTC).date().isoformat(),
        "architecture": "rnan",
        "size": [f"{loaded.network['num_feat']}nf", f"{loaded.network['num_rab']}+{loaded.network['num_rnab']}b"],
        "scale": scale,
        "inputChannels": channels,
        "outputChannels": channels,
        "resources": [_resource(file, listing.url) for file in _files(loaded, out)],
        **(_training_of(shipped) if shipped else {}),
        "images": [],
    }
    return (json.dumps(entry, indent=4, ensure_ascii=False) + "\n").encode()


def _scale_of(loaded: Loaded) -> int:
    if loaded.network["type"] != "RNAN":
        raise UserError(f"{loaded.weights}: is a {loaded.network['type']}; --to openmodeldb is for RNAN")
    return int(loaded.network["upscale"])


def _files(loaded: Loaded, out: Path) -> Iterator[Path]:
    """The files to download, beside `out`; a stale one would be published as this network."""
    files = [file for ending in _PLATFORMS if (file := out.with_suffix(f".{ending}")).is_file()]
    if not files:
        raise UserError(
            f"{out}: nothing to download beside it; first `rnan export … {out.with_suffix('.safetensors')}`"
        )
    weights = loaded.net.state_dict()
    for file in files:
        if file.suffix != ".onnx":
            found = load_network(None, str(file)).net.state_dict()
            same = found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in found)
            if not same:
                raise UserError(f"{file}: holds another network than {loaded.weights}; export it again")
        yield file


def _resource(file: Path, url: str | None) -> dict[str, Any]:
    content, kind = file.read_bytes(), file.suffix.removeprefix(".")
    return {
        "platform": _PLATFORMS[kind],
        "type": kind,
        "size": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "urls": [] if url is None else [f"{url.rstrip('/')}/{file.name}"],
    }


def _card_of(shipped: ShippedNetwork) -> str:
    return shipped.file.with_suffix(".md").read_text(encoding="utf-8").removeprefix("# ").strip()


def _training_of(shipped: ShippedNetwork) -> dict[str, Any]:
    """What the card and the file say of the training; degradations are drawn while it runs."""
    (data,) = re.findall(r"^- Data: (.*(?:\n  .*)*)", _card_of(shipped), re.MULTILINE)
    iterations, _ = training_spent(checkpoints.read(shipped.file))
    return {"trainingIterations": iterations, "trainingOTF": True, "dataset": " ".join(data.split())}
