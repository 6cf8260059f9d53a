"""RNAN for spandrel, the loader of model files that other programs use.

    import rnan_plugin.spandrel, spandrel

    rnan_plugin.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("car_10.safetensors")
    restored = model(image)  # (1, C, H, W) in 0..1

Five arguments of RNAN leave no trace in its layers. Files of `rnan export` say them; of others see `arguments_of`.
"""

from __future__ import annotations

from typing import Any

from rnan_plugin.archs.inferred import arguments_of
from rnan_plugin.archs.official_weights import infer_arguments, rename
from rnan_plugin.archs.rnan_arch import RNAN
from rnan_plugin.portable import BUFFER, described

try:
    from spandrel import MAIN_REGISTRY, Architecture, ArchSupport, ImageModelDescriptor, ModelTiling
    from spandrel.util import KeyCondition
except ImportError:
    raise ImportError("spandrel is not installed: pip install 'rnan-plugin[spandrel]'") from None

_DESCRIBED = KeyCondition.has_all("head.weight", BUFFER)
_TRAINED = KeyCondition.has_all(
    "head.weight", "body.0.head.0.conv1.weight", "body.0.trunk.0.conv1.weight", "body.0.tail.0.conv1.weight"
)
_RELEASED = KeyCondition.has_all("head.0.weight", "body_nl_low.0.body.0.RA_RB1.0.body.0.weight")


def install() -> None:
    """Let every `spandrel.ModelLoader` know RNAN; a second call changes nothing."""
    MAIN_REGISTRY.add(ArchSupport.from_architecture(RNANArch()), ignore_duplicates=True)


class RNANArch(Architecture[RNAN]):
    """RNAN as one of spandrel's architectures, for a registry that is not the common one."""

    def __init__(self) -> None:
        super().__init__(id="RNAN", detect=KeyCondition.has_any(_DESCRIBED, _TRAINED, _RELEASED))

    def load(self, state_dict: dict[str, Any]) -> ImageModelDescriptor[RNAN]:
        """Build the network of an exported, a trained or a released file, and load it strictly.

        Args:
            state_dict: As spandrel reads it.

        Raises:
            UserError: The file's description of its network is damaged.
            ValueError: It describes a network that can't be built.
            RuntimeError: The weights are not that network's.
        """
        arguments, weights = _network_in(state_dict)
        net = RNAN(**arguments)
        return ImageModelDescriptor(
            net,
            weights,
            architecture=self,
            purpose="SR" if net.upscale > 1 else "Restoration",
            tags=[f"{net.head.out_channels}nf", f"{arguments['num_rab']}+{arguments['num_rnab']}b"],
            supports_half=True,
            supports_bfloat16=True,
            scale=net.upscale,
            input_channels=net.head.in_channels,
            output_channels=net.head.in_channels,
            tiling=ModelTiling.DISCOURAGED,  # attention sees the whole image
        )


def _network_in(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Arguments of the network, and its weights by our names."""
    if BUFFER in state:
        network = described(state[BUFFER], "this file")
        weights = {name: value for name, value in state.items() if name != BUFFER}
        return {name: value for name, value in network.items() if name != "type"}, weights
    if _TRAINED(state):
        return arguments_of(state), state
    return infer_arguments(state), rename(state)
