"""Data sources and streams of batches."""

from netpress.data.augment import AUGMENTATIONS
from netpress.data.catalogue import DATA_SETS
from netpress.data.check import check
from netpress.data.dataset import Data, Images, Split
from netpress.data.opening import open_data
from netpress.data.preprocess import Preprocess
from netpress.data.stream import ImageStream

__all__ = ["AUGMENTATIONS", "DATA_SETS", "Data", "ImageStream", "Images", "Preprocess", "Split", "check", "open_data"]
