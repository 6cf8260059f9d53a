"""Writing a network with its weights in the form that another program reads."""

from __future__ import annotations

from pathlib import Path

from rnan_plugin import checkpoints
from rnan_plugin.choices import ExportForm, OnnxRuntime
from rnan_plugin.errors import UserError
from rnan_plugin.export.openmodeldb import Listing, openmodeldb_entry
from rnan_plugin.inference.networks import Loaded
from rnan_plugin.portable import BUFFER, describing
from rnan_plugin.targets import check_new_file, check_parent, is_file


def export(
    loaded: Loaded,
    form: ExportForm,
    out: Path,
    *,
    runtime: OnnxRuntime = "any",
    half: bool = False,
    overwrite: bool = False,
    listing: Listing | None = None,
) -> None:
    """Write a network to a file, whole or not at all.

    Args:
        loaded: As `load_network` gives it.
        form: "pth" is a checkpoint as the plugin and BasicSR write it; "safetensors" holds no code and is read by most
            programs. Both say what the network is, to every command of the plugin and to spandrel.
            "onnx" is a graph for programs without PyTorch; "openmodeldb" an entry that lists the others beside it.
        out: The file, whose ending is the form's name; .json of "openmodeldb".
        runtime: Of onnx: "onnxruntime" for memory linear in the pixels there, "any" for standard operators.
        half: Of onnx: weights, input and output in float16.
        overwrite: Replace a file that is there already.
        listing: Of openmodeldb: what only its publisher knows.

    Raises:
        UserError: Another ending, an argument of another form, a network that the form can't hold, the file is there
            already or is the one the weights came from, it can't be written, or a package that the form needs is not
            installed.
    """
    _check_target(out, form, Path(loaded.weights), overwrite=overwrite)
    if (form == "openmodeldb") != (listing is not None):
        raise UserError("--author: is needed for --to openmodeldb, and for nothing else")
    if form == "onnx":
        checkpoints.save_bytes(_onnx(loaded, runtime, half=half), out)
        return
    if half or runtime != "any":
        raise UserError(f"--half, --runtime: are for --to onnx; {form} holds the weights as they are")
    if listing is not None:
        checkpoints.save_bytes(openmodeldb_entry(loaded, out, listing), out)
        return
    weights = loaded.net.state_dict()
    if form == "safetensors":
        checkpoints.save_safetensors(weights, loaded.network, out)
        return
    content = {"params": weights, "network_g": dict(loaded.network)}
    if loaded.network["type"] == "RNAN":
        # spandrel looks for `state_dict` first, and would drop `network_g`; the tensors are stored once all the same.
        content["state_dict"] = {**weights, BUFFER: describing(loaded.network)}
    checkpoints.save_checkpoint(content, out)


def _onnx(loaded: Loaded, runtime: OnnxRuntime, *, half: bool) -> bytes:
    if loaded.network["type"] != "RNAN":
        raise UserError(f"{loaded.weights}: is a {loaded.network['type']}; --to onnx is for RNAN")
    from rnan_plugin.export.onnx_graph import onnx_graph  # the compiler that it needs takes a second

    return onnx_graph(loaded.net, loaded.network, runtime, half=half)


def _check_target(out: Path, form: ExportForm, source: Path, *, overwrite: bool) -> None:
    ending = ".json" if form == "openmodeldb" else f".{form}"
    if out.suffix != ending:
        raise UserError(f"{out}: --to {form} writes a file whose name ends in {ending}; name it so")
    check_parent(out)
    if is_file(out) and out.samefile(source):
        raise UserError(f"{out}: is the file that the weights come from; name another")
    check_new_file(out, overwrite=overwrite)
