"""One image file as an array; Pillow is imported when the first is decoded."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from netpress.errors import DataError, MissingExtraError

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
_DEEP_MODES = ("I", "F", "I;16", "I;16B", "I;16L", "I;16N")


def need_pillow() -> None:
    """Imports Pillow, which is optional and slow to import.

    Raises:
        MissingExtraError: it is absent.
    """
    try:
        import PIL.Image  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("pillow", "data", "reading image files") from error


def decode(path: Path, size: tuple[int, int], channels: int) -> NDArray[np.uint8]:
    """The image as (H, W, C) uint8; one of another size is scaled so that it covers ``size`` and its middle is cut out.

    Args:
        path: The file.
        size: (height, width) of the result.
        channels: 3 (RGB) or 1 (grey).

    Raises:
        DataError: It cannot be decoded, or has more than 8 bits a channel.
    """
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            if opened.mode in _DEEP_MODES:
                raise DataError(
                    f"{path} has more than 8 bits a channel",
                    got=f"mode {opened.mode}",
                    remedy="convert it to 8 bits",
                )
            image = ImageOps.exif_transpose(opened)
            if "transparency" in image.info:
                image = image.convert("RGBA")  # Pillow warns when it drops a palette's transparency itself
            image = image.convert("RGB" if channels == 3 else "L")
            if image.size != size[::-1]:
                image = ImageOps.fit(image, size[::-1], method=Image.Resampling.BILINEAR)
            return np.asarray(image, dtype=np.uint8).reshape(*size, channels)
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"cannot decode the image {path}", got=error, remedy="repair or remove the file") from error
