"""Files for printing, or of colours that no screen has, as sRGB."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL import ImageCms

from rnan_plugin.images.codec import decoded_by_pillow, samples_of

CONVERTED_TO_SRGB = frozenset({"CMYK", "LAB"})  # Pillow's names for them


def to_srgb(code: bytes, name: str, icc: bytes | None) -> tuple[NDArray[np.uint8], bytes | None, str]:
    """RGB of a file in CMYK or CIELab: through its colour profile, of CMYK without one by Pillow's plain formula.

    Returns:
        (H, W, 3); the profile that it has now; and what was done, for the user.
    """
    srgb = ImageCms.createProfile("sRGB")
    with decoded_by_pillow(code, name) as file:
        file.load()
        try:
            rgb: Any = ImageCms.profileToProfile(file, _profile_of(file, icc), srgb, outputMode="RGB")
        except Exception:  # no profile, or a damaged one
            how = f"{file.mode} without a profile that can be read, comes back as RGB by a plain formula"
            return samples_of(file, "RGB"), None, how
        own = "" if file.mode == "LAB" else " through its profile"
        told = f"{file.mode}, comes back as sRGB, converted{own}"
        return samples_of(rgb, "RGB"), ImageCms.ImageCmsProfile(srgb).tobytes(), told


def _profile_of(file: PillowImage.Image, icc: bytes | None) -> Any:
    if file.mode == "LAB":
        return ImageCms.createProfile("LAB")
    return ImageCms.getOpenProfile(io.BytesIO(icc or b""))
