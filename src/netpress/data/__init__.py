"""Data sources and streams of batches. Each name is imported when it is first used: most of them bring torch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from netpress.lazy import from_homes

if TYPE_CHECKING:
    from netpress.data.augment import AUGMENTATIONS
    from netpress.data.catalogue import DATA_SETS
    from netpress.data.checking import check
    from netpress.data.dataset import Data, Images, Split
    from netpress.data.opening import open_data
    from netpress.data.preprocess import Preprocess
    from netpress.data.stream import ImageStream

__all__ = ["AUGMENTATIONS", "DATA_SETS", "Data", "ImageStream", "Images", "Preprocess", "Split", "check", "open_data"]

_HOME = {
    "AUGMENTATIONS": "augment",
    "DATA_SETS": "catalogue",
    "check": "checking",
    "Data": "dataset",
    "Images": "dataset",
    "Split": "dataset",
    "open_data": "opening",
    "Preprocess": "preprocess",
    "ImageStream": "stream",
}

__getattr__ = from_homes(__name__, _HOME)
