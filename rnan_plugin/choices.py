"""Words that command lines and option files choose from; without torch, so that help is there at once."""

from __future__ import annotations

from typing import Literal, get_args

Channels = Literal["rgb", "gray", "y"]  # what a network works on
CHANNELS: tuple[Channels, ...] = get_args(Channels)

Precision = Literal["float32", "bfloat16", "float16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)

AskedPrecision = Literal["auto", "float32", "bfloat16", "float16"]  # "auto": what the device is faster in
ASKED_PRECISIONS: tuple[AskedPrecision, ...] = get_args(AskedPrecision)

PolicyName = Literal["auto", "whole", "tile", "release"]
POLICIES: tuple[PolicyName, ...] = get_args(PolicyName)

NetworkName = Literal["RNAN", "EDSR", "MSRResNet", "RCAN", "RIDNet", "SwinIR"]  # RNAN, and BasicSR's in its place
NETWORKS: tuple[NetworkName, ...] = get_args(NetworkName)

OneChannel = Literal["y", "gray"]  # what a one-channel network restores of colour images
ONE_CHANNEL: tuple[OneChannel, ...] = get_args(OneChannel)

OutputFormat = Literal["png", "jpg", "webp", "tif"]
RESULT_FORMATS = (*get_args(OutputFormat), "same")  # "same" keeps each file's own

ShippedSize = Literal["small", "medium"]  # of the package's networks
Size = Literal["paper", ShippedSize]
SIZES: tuple[Size, ...] = get_args(Size)

ExportForm = Literal["pth", "safetensors", "onnx", "openmodeldb"]
EXPORT_FORMS: tuple[ExportForm, ...] = get_args(ExportForm)

OnnxRuntime = Literal["any", "onnxruntime"]
ONNX_RUNTIMES: tuple[OnnxRuntime, ...] = get_args(OnnxRuntime)
