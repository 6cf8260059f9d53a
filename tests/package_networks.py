"""Networks of the package, as they are restored with."""

from __future__ import annotations

from torch import nn

from rnan_plugin.inference.networks import load_network
from rnan_plugin.paper.tasks import TaskAtLevel


def network_for(task: TaskAtLevel) -> nn.Module:
    return load_network(None, None, task).net
