"""RNAN, its exact non-local attention, and the bridge to the released weights."""

from rnan_plugin.archs.kernels import plain

__all__ = ["plain"]
