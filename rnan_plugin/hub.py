"""RNAN with the hub's `from_pretrained`, `save_pretrained` and `push_to_hub`, which work on folders without a network.

    from rnan_plugin.hub import RNAN

    RNAN.load("car", 10).save_pretrained("car_10")  # config.json, model.safetensors and README.md in a folder
    net = RNAN.from_pretrained("car_10")

The extra `hub` brings huggingface_hub.
"""

from __future__ import annotations

from pathlib import Path

from rnan_plugin import checkpoints
from rnan_plugin.archs import rnan_arch
from rnan_plugin.errors import UserError
from rnan_plugin.inference.networks import load_network
from rnan_plugin.paper.tasks import TaskAtLevel

try:
    from huggingface_hub import PyTorchModelHubMixin
    from huggingface_hub.constants import SAFETENSORS_SINGLE_FILE
except ImportError:
    raise ImportError("huggingface_hub is not installed: pip install 'rnan-plugin[hub]'") from None


class RNAN(  # type: ignore[call-arg]  # the mixin's own, which is not looked into
    rnan_arch.RNAN,
    PyTorchModelHubMixin,
    library_name="rnan-plugin",
    pipeline_tag="image-to-image",
    tags=["image-restoration"],
    paper_url="https://openreview.net/forum?id=HkeGhoA5FX",
):
    """RNAN as a model of the hub: not the registered class, since the mixin keeps the arguments of its own.

    Its `model.safetensors` is that of `rnan export`: every command and spandrel read it. Weights are loaded strictly,
    whatever `strict` says: the mixin's default leaves what is missing at random.
    """

    @classmethod
    def load(
        cls,
        task: str | None = None,
        level: float | None = None,
        *,
        option_file: str | None = None,
        weights: str | None = None,
    ) -> RNAN:
        """Make a model of the package, a training or the release into one for the hub, in eval mode.

        Args:
            task: As of `rnan_plugin.load_network`, as all others.
            level: Of the task.
            option_file: Of a training.
            weights: A checkpoint, or the name of a network in the package.

        Raises:
            UserError: Nothing is named, a file is missing or damaged, or it holds another network than RNAN.
        """
        loaded = load_network(option_file, weights, None if task is None else TaskAtLevel(task, level))
        arguments = dict(loaded.network)
        if arguments.pop("type") != "RNAN":
            raise UserError(f"{loaded.weights}: is a {loaded.network['type']}; the hub's class is for RNAN")
        net = cls(**arguments)
        net.load_state_dict(loaded.net.state_dict())
        return net.eval()

    def _save_pretrained(self, save_directory: Path) -> None:
        network = {"type": "RNAN", **self._hub_mixin_config}  # type: ignore[dict-item]
        checkpoints.save_safetensors(self.state_dict(), network, save_directory / SAFETENSORS_SINGLE_FILE)

    @classmethod
    def _load_as_safetensor(cls, model: RNAN, model_file: str, map_location: str, strict: bool) -> RNAN:  # noqa: ARG003
        checkpoints.load_weights(model, model_file)
        return model.to(map_location).eval()
