"""The public data sets that are known by name: where their official files lie, on disk and on the network."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from netpress.data.affinity import open_affinity
from netpress.data.dataset import Data, Split
from netpress.data.download import RemoteFile, extract, fetch
from netpress.data.official import read_cifar, read_idx, read_stl10, read_svhn
from netpress.data.preprocess import Preprocess
from netpress.errors import DataError, MissingExtraError
from netpress.progress import Progress

_DIGITS = tuple(str(digit) for digit in range(10))
_DIGITS_SEED, _DIGITS_TEST = 20240, 360  # fixed: the same 1,437 and 360 images for everybody


@dataclass(frozen=True)
class Source:
    """Where official files are looked for and fetched from.

    Attributes:
        root: The user's data folder.
        download: Whether to fetch what is not there.
        progress: Where downloads are announced.
    """

    root: Path
    download: bool = True
    progress: Progress | None = None


@dataclass(frozen=True)
class Archive:
    """A data set that is published as one archive.

    Attributes:
        file: The archive.
        folder: The folder inside it.
        members: Files that are needed.
        optional: Files that are used when they are there.
        pickled: Names of the Python version, which holds pickles and is never read.
    """

    file: RemoteFile
    folder: str
    members: tuple[str, ...]
    optional: tuple[str, ...] = ()
    pickled: tuple[str, ...] = ()


CIFAR10 = Archive(
    RemoteFile(
        "cifar-10-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz",),
        170_052_171,
        "c32a1d4ab5d03f1284b67883e8d87530",
    ),
    "cifar-10-batches-bin",
    (*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"),
    pickled=("cifar-10-batches-py", "cifar-10-python.tar.gz"),
)
CIFAR100 = Archive(
    RemoteFile(
        "cifar-100-binary.tar.gz",
        ("https://www.cs.toronto.edu/~kriz/cifar-100-binary.tar.gz",),
        168_513_733,
        "03b5dce01913d631647c71ecec9e9cb8",
    ),
    "cifar-100-binary",
    ("train.bin", "test.bin"),
    ("fine_label_names.txt",),
    ("cifar-100-python", "cifar-100-python.tar.gz"),
)
STL10 = Archive(
    RemoteFile(
        "stl10_binary.tar.gz",
        (
            "https://cs.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
            "https://ai.stanford.edu/~acoates/stl10/stl10_binary.tar.gz",
        ),
        2_640_397_119,
        "91f7769df0f17e558f3565bffb0c7dfb",
    ),
    "stl10_binary",
    ("train_X.bin", "train_y.bin", "test_X.bin", "test_y.bin"),
)


def _mnist_file(name: str, size_bytes: int, md5: str) -> RemoteFile:
    # The author's own server refuses downloads; these two mirrors carry the same bytes.
    hosts = ("https://ossci-datasets.s3.amazonaws.com/mnist", "https://storage.googleapis.com/cvdf-datasets/mnist")
    return RemoteFile(name, tuple(f"{host}/{name}" for host in hosts), size_bytes, md5)


def _svhn_file(name: str, size_bytes: int, md5: str) -> RemoteFile:
    return RemoteFile(name, (f"https://ufldl.stanford.edu/housenumbers/{name}",), size_bytes, md5)


MNIST = {
    "x_train": _mnist_file("train-images-idx3-ubyte.gz", 9_912_422, "f68b3c2dcbeaaa9fbdd348bbdeb94873"),
    "y_train": _mnist_file("train-labels-idx1-ubyte.gz", 28_881, "d53e105ee54ea40749a09fcbcd1e9432"),
    "x_test": _mnist_file("t10k-images-idx3-ubyte.gz", 1_648_877, "9fb629c4189551a2d022fa330f9573f3"),
    "y_test": _mnist_file("t10k-labels-idx1-ubyte.gz", 4_542, "ec29112dd5afa0611ce80d1b7f02629c"),
}
SVHN = {
    "train": _svhn_file("train_32x32.mat", 182_040_794, "e26dedcc434d2e4c54c9b2d4a06d8373"),
    "test": _svhn_file("test_32x32.mat", 64_275_384, "eb5a983be6a315427106f1b164d9cef3"),
}


def default_root() -> Path:
    """``NETPRESS_DATA``, or a folder in the user's cache."""
    return Path(os.environ.get("NETPRESS_DATA") or Path.home() / ".cache" / "netpress" / "data")


def digits(source: Source) -> Data:
    """scikit-learn's 1,797 handwritten digits, 8 by 8 pixels of 0 to 16: 1,437 and 360, stratified."""
    try:
        from sklearn.datasets import load_digits  # heavy, and wanted for this data set only
    except ImportError as error:
        raise MissingExtraError("scikit-learn", "data", "the data set digits") from error
    bundle = load_digits()
    whole = Split(bundle.images.astype(np.uint8), bundle.target.astype(np.int64))
    train, test = whole.hold_out(_DIGITS_TEST, _DIGITS_SEED)
    return Data("digits", train, test, _DIGITS, preprocess=Preprocess(1 / 16, (0.3050,), (0.3759,)))


def cifar10(source: Source) -> Data:
    """CIFAR-10 (Krizhevsky 2009): 50,000 and 10,000 colour images of 32 by 32 pixels."""
    folder = locate_archive("cifar10", CIFAR10, source)
    *batches, test = (folder / name for name in CIFAR10.members)
    classes = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
    preprocess = Preprocess(1 / 255, (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616))
    return Data(
        "cifar10", Split(*read_cifar(batches, 1)), Split(*read_cifar([test], 1)), classes, preprocess=preprocess
    )


def cifar100(source: Source) -> Data:
    """CIFAR-100 (Krizhevsky 2009), its 100 fine classes: 50,000 and 10,000 colour images of 32 by 32 pixels."""
    folder = locate_archive("cifar100", CIFAR100, source)
    names = folder / "fine_label_names.txt"
    classes = tuple(names.read_text().split()) if names.is_file() else tuple(str(k) for k in range(100))
    preprocess = Preprocess(1 / 255, (0.5071, 0.4865, 0.4409), (0.2673, 0.2564, 0.2762))
    train, test = (Split(*read_cifar([folder / name], 2)) for name in CIFAR100.members)
    return Data("cifar100", train, test, classes, preprocess=preprocess)


def stl10(source: Source) -> Data:
    """STL-10 (Coates, Lee, Ng 2011): 5,000 and 8,000 labelled colour images of 96 by 96 pixels."""
    folder = locate_archive("stl10", STL10, source)
    train, test = (Split(*read_stl10(folder / f"{part}_X.bin", folder / f"{part}_y.bin")) for part in ("train", "test"))
    classes = ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck")
    preprocess = Preprocess(1 / 255, (0.4467, 0.4398, 0.4066), (0.2603, 0.2566, 0.2713))
    return Data("stl10", train, test, classes, preprocess=preprocess)


def mnist(source: Source) -> Data:
    """MNIST (LeCun, Cortes, Burges 1998): 60,000 and 10,000 grey images of 28 by 28 pixels."""
    arrays = {key: read_idx(locate_file("mnist", file, source)) for key, file in MNIST.items()}
    train, test = (Split(arrays[f"x_{part}"], arrays[f"y_{part}"]) for part in ("train", "test"))
    return Data("mnist", train, test, _DIGITS, preprocess=Preprocess(1 / 255, (0.1307,), (0.3081,)))


def svhn(source: Source) -> Data:
    """SVHN (Netzer et al. 2011), cropped digits: 73,257 and 26,032 colour images of 32 by 32 pixels."""
    train, test = (Split(*read_svhn(locate_file("svhn", SVHN[part], source))) for part in ("train", "test"))
    preprocess = Preprocess(1 / 255, (0.4377, 0.4438, 0.4728), (0.1980, 0.2010, 0.1970))
    return Data("svhn", train, test, _DIGITS, preprocess=preprocess)


def davis(source: Source) -> Data:
    """DAVIS (Davis et al. 2011): 30,056 pairs of 68 drugs and 442 kinases; the label is pKd, 5 to 10.8."""
    return open_affinity("davis", source.root, kd=True)


def kiba(source: Source) -> Data:
    """KIBA (Tang et al. 2014): 118,254 pairs of 2,111 drugs and 229 kinases; the label is the KIBA score, 0 to 17.2."""
    return open_affinity("kiba", source.root, kd=False)


DATA_SETS: dict[str, Callable[[Source], Data]] = {
    loader.__name__: loader for loader in (digits, cifar10, cifar100, stl10, mnist, svhn, davis, kiba)
}


def locate_archive(name: str, archive: Archive, source: Source) -> Path:
    """The folder that holds the members: found, or extracted from an archive found, or downloaded.

    Raises:
        DataError: Nothing usable: incomplete, pickled only, or not to be had; the text says which file to put where.
    """
    root, places = source.root, (source.root, source.root / name)
    for folder in (*(place / archive.folder for place in places), root / name, root):
        missing = [member for member in archive.members if not (folder / member).is_file()]
        if not missing:
            return folder
        if folder.name == archive.folder and folder.is_dir():
            raise DataError(
                f"{name}: the folder {folder} is incomplete",
                got=f"no {', '.join(missing)}",
                remedy=f"extract {archive.file.name} again, or remove the folder",
            )
    for place in places:
        if (place / archive.file.name).is_file():
            return extract(place / archive.file.name, archive.members, place / archive.folder, archive.optional)
    by_hand = f"put {archive.file.name} from {archive.file.urls[0]} into {root}"
    for pickled in (place / other for place in places for other in archive.pickled):
        if pickled.exists():
            raise DataError(
                f"{name}: there is only the Python version, which holds pickles, and pickles can run code",
                got=pickled,
                allowed="the binary version",
                remedy=by_hand,
            )
    if not source.download:
        raise DataError(f"{name}: no files in {root}", allowed=f"the folder {archive.folder}", remedy=by_hand)
    fetch(archive.file, root, progress=source.progress)
    return extract(root / archive.file.name, archive.members, root / archive.folder, archive.optional)


def locate_file(name: str, file: RemoteFile, source: Source) -> Path:
    """A file that is published by itself: found, gzipped or plain, or downloaded into a folder called ``name``.

    Raises:
        DataError: It is not there and not to be had; the text says which file to put where.
    """
    root, plain = source.root, file.name.removesuffix(".gz")
    names = (plain, file.name, plain.replace("-idx", ".idx"))
    folders = (root / name, root, root / name.upper() / "raw", root / name.upper(), root / name / "raw")
    for path in (folder / spelled for folder in folders for spelled in names):
        if path.is_file():
            return path
    if not source.download:
        raise DataError(
            f"{name}: no {file.name} in {root}",
            allowed=" or ".join(names[:2] if plain != file.name else names[:1]),
            remedy=f"put {file.name} from {file.urls[0]} into {root / name}",
        )
    return fetch(file, root / name, progress=source.progress)
