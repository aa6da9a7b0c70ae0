"""Small files in the official layouts, with what they hold."""

from __future__ import annotations

import gzip
import io
import struct
import tarfile
from pathlib import Path

import numpy as np


def pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def cifar_bytes(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Records of one byte a label and three planes, row by row. ``images``: (N, 32, 32, 3)."""
    out = bytearray()
    for k, image in enumerate(images):
        out += bytes(int(label[k]) for label in labels)
        for channel in range(3):
            out += image[:, :, channel].tobytes()
    return bytes(out)


def cifar10_files(count: int = 4) -> tuple[dict[str, bytes], np.ndarray, np.ndarray]:
    """Five training batches and a test batch of ``count``, and all their images and labels in order."""
    images, labels = pixels(0, 6 * count, 32, 32, 3), np.arange(6 * count) % 10
    names = [*(f"data_batch_{k}.bin" for k in range(1, 6)), "test_batch.bin"]
    parts = [slice(k * count, (k + 1) * count) for k in range(6)]
    return (
        {name: cifar_bytes(images[part], labels[part]) for name, part in zip(names, parts, strict=True)},
        images,
        labels,
    )


def idx_bytes(array: np.ndarray) -> bytes:
    header = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.tobytes()


def stl10_bytes(images: np.ndarray) -> bytes:
    """Planes stored column by column. ``images``: (N, 96, 96, 3)."""
    out = bytearray()
    for image in images:
        for channel in range(3):
            for column in range(96):
                out += image[:, column, channel].tobytes()
    return bytes(out)


def write(folder: Path, files: dict[str, bytes]) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return folder


def write_tar(path: Path, files: dict[str, bytes], prefix: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w:gz") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"{prefix}/{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return path


def mnist_files(compress: bool) -> tuple[dict[str, bytes], dict[str, np.ndarray]]:
    arrays = {
        "train-images-idx3-ubyte": pixels(1, 20, 28, 28),
        "train-labels-idx1-ubyte": (np.arange(20) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": pixels(2, 10, 28, 28),
        "t10k-labels-idx1-ubyte": np.arange(10).astype(np.uint8),
    }
    plain = {name: idx_bytes(array) for name, array in arrays.items()}
    return ({f"{name}.gz": gzip.compress(content) for name, content in plain.items()} if compress else plain), arrays
