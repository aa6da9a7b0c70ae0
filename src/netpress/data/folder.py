"""Images in folders, decoded when they are asked for."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.data.dataset import Data, Split, file_identity
from netpress.data.image_files import SUFFIXES, decode, need_pillow
from netpress.data.preprocess import Preprocess
from netpress.errors import DataError

TEST_SHARE = 0.2
_THREADS = min(8, os.cpu_count() or 1)
_IMAGENET = Preprocess(1 / 255, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_GREY = Preprocess(1 / 255, (0.5,), (0.5,))


class FolderImages:
    """Image files as an array-like of uint8, (N, H, W, C). Nothing is kept; a batch is decoded by a few threads.

    An image of another size is scaled so that it covers ``size`` and its middle is cut out.

    Args:
        paths: The files, in order.
        root: What their names are relative to, for :meth:`identity`.
        size: (height, width) of every image.
        channels: 3 (RGB) or 1 (grey).
    """

    def __init__(self, paths: list[Path], root: Path, size: tuple[int, int], channels: int) -> None:
        self.paths, self.root, self.size, self.channels = paths, root, size, channels

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.paths), *self.size, self.channels)

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.uint8)

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, rows: Any, /) -> NDArray[np.uint8]:
        """Row numbers, a slice, or one row number.

        Raises:
            DataError: A file that cannot be decoded.
        """
        chosen = np.arange(len(self.paths))[rows]
        if chosen.ndim == 0:
            return self._decode(self.paths[int(chosen)])
        out = np.empty((len(chosen), *self.shape[1:]), dtype=np.uint8)
        if len(chosen):
            with ThreadPoolExecutor(min(_THREADS, len(chosen)), "netpress-decode") as pool:
                for k, image in enumerate(pool.map(self._decode, [self.paths[int(row)] for row in chosen])):
                    out[k] = image
        return out

    def identity(self) -> bytes:
        return f"{self.size}{self.channels}".encode() + file_identity(self.paths, self.root)

    def _decode(self, path: Path) -> NDArray[np.uint8]:
        return decode(path, self.size, self.channels)


def open_folder(folder: Path, *, size: int | None = None, channels: int | None = None, seed: int = 0) -> Data:
    """Images by class: ``train/CLASS/*`` with ``test/CLASS/*`` (or ``val``), or ``CLASS/*``, or loose images.

    Without a test folder a fifth of the images is held out as test, seeded, class by class. Loose images have no
    labels. Classes are the folders' names in sorted order.

    Args:
        folder: The folder.
        size: Height and width of the images; the first image's size when it is not given.
        channels: 3 (RGB, the default) or 1 (grey).
        seed: Of the images held out.

    Raises:
        MissingExtraError: Pillow is absent.
        DataError: No images, loose images beside class folders, other classes in test than in train.
    """
    need_pillow()
    if not folder.is_dir():
        raise DataError("there is no such folder", got=folder, allowed="a folder of images", remedy="check the path")
    channels = channels or 3
    if channels not in (1, 3):
        raise DataError("images have another number of channels", got=channels, allowed="1 (grey) or 3 (colour)")
    train_folder = folder / "train" if (folder / "train").is_dir() else folder
    tests = [folder / part for part in ("test", "val") if train_folder != folder and (folder / part).is_dir()]
    paths, labels, classes = _list_images(train_folder)
    if size is None:
        from PIL import Image

        try:
            with Image.open(paths[0]) as first:
                shape = (first.height, first.width)
        except OSError as error:
            raise DataError(f"cannot decode the image {paths[0]}", got=error, remedy="repair or remove it") from error
    else:
        shape = (size, size)
    whole = Split(FolderImages(paths, folder, shape, channels), labels)
    if tests:
        test_paths, test_labels, test_classes = _list_images(tests[0])
        if test_labels is not None and labels is not None:
            if unknown := sorted(set(test_classes) - set(classes)):
                raise DataError(f"{tests[0]} has classes that train has not", got=", ".join(unknown), allowed=classes)
            numbers = np.array([classes.index(name) for name in test_classes])
            test_labels = numbers[test_labels]
        train, test = whole, Split(FolderImages(test_paths, folder, shape, channels), test_labels)
        classes = classes or test_classes
    else:
        train, test = whole.hold_out(TEST_SHARE, seed)
    return Data(folder.name, train, test, classes, preprocess=_IMAGENET if channels == 3 else _GREY)


def _list_images(folder: Path) -> tuple[list[Path], NDArray[np.int64] | None, tuple[str, ...]]:
    """Paths, labels and class names below a folder; labels None for loose images."""
    loose = _images_in(sorted(folder.iterdir()))
    by_class = {sub.name: _images_in(sorted(sub.rglob("*"))) for sub in sorted(folder.iterdir()) if sub.is_dir()}
    by_class = {name: paths for name, paths in by_class.items() if paths}
    if loose and by_class:
        raise DataError(
            f"{folder} has loose images beside class folders",
            got=f"{len(loose)} loose images, such as {loose[0].name}",
            allowed="images in class folders only, or loose images only",
        )
    if loose:
        return loose, None, ()
    if not by_class:
        raise DataError(f"there are no images in {folder}", allowed=f"files ending in {', '.join(SUFFIXES)}")
    counts = [len(paths) for paths in by_class.values()]
    labels = np.repeat(np.arange(len(counts)), counts)
    return [path for paths in by_class.values() for path in paths], labels, tuple(by_class)


def _images_in(paths: list[Path]) -> list[Path]:
    return [
        path for path in paths if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and path.is_file()
    ]
