"""Whole files in and out: nothing half-written is ever left where a file should be."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable
from pathlib import Path

from netpress.artifact.container import MOST_HEADER_BYTES, read_header
from netpress.errors import ArtifactError


def read_file(path: str | os.PathLike[str]) -> bytes:
    """All bytes of a file whose header agrees with its length.

    One read into memory, not a map: a file that another process changes meanwhile cannot change under a checksum that
    was already verified.

    Raises:
        ArtifactError: it cannot be opened, is not a regular file, or fails `container.read_header`; of a file that is
            none of ours only the header is read.
    """
    try:
        # Asked before opening, since opening a pipe waits for its other end.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ArtifactError("not a file", got=_shown(path), remedy="name the .netpress file itself")
        with open(path, "rb") as file:
            head = file.read(MOST_HEADER_BYTES)
            header = read_header(head, os.fstat(file.fileno()).st_size)
            file.seek(0)
            return file.read(header.total_bytes)
    except FileNotFoundError as error:
        raise ArtifactError(
            "the file does not exist", got=_shown(path), remedy="check the path; `netpress compress` makes such files"
        ) from error
    except (OSError, ValueError) as error:  # ValueError: a path with a null byte
        raise ArtifactError(
            "the file cannot be read", got=f"{_shown(path)}: {error}", remedy="check the path and its permissions"
        ) from error


def check_destination(path: str | os.PathLike[str]) -> Path:
    """Where `write_file` would write, links followed.

    Raises:
        ArtifactError: its folder does not exist, or something that is not a file has that name.
    """
    try:
        target = Path(os.path.realpath(path))
        if target.exists() and not target.is_file():
            raise ArtifactError("cannot be overwritten: not a file", got=_shown(path), remedy="give a file's name")
        if not target.parent.is_dir():
            raise ArtifactError(
                "the folder does not exist", got=_shown(target.parent), remedy="create it first, or give another path"
            )
    except (OSError, ValueError) as error:
        raise ArtifactError("the file cannot be written", got=f"{_shown(path)}: {error}") from error
    return target


def write_file(path: str | os.PathLike[str], pieces: Iterable[bytes]) -> int:
    """Writes a file completely or not at all.

    The bytes go to a new file in the same folder, are flushed to the disk, and take the name in one step. On any
    failure the new file is removed and what was there before stays.

    Returns:
        The number of bytes.

    Raises:
        ArtifactError: the disk or the folder refuses.
    """
    import secrets  # for writers alone: reading is to begin at once

    target = check_destination(path)
    partial = target.with_name(f".netpress-{secrets.token_hex(8)}.partial")
    try:
        # Not tempfile: its files are closed to others whatever the umask says.
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
        try:
            with os.fdopen(descriptor, "wb") as file:
                size_bytes = sum(file.write(piece) for piece in pieces)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, target)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise
        _flush_folder(target.parent)
    except OSError as error:
        raise ArtifactError(
            "the file cannot be written",
            got=f"{_shown(path)}: {error.strerror or error}",
            remedy="check the folder's permissions and free space",
        ) from error
    return size_bytes


def _flush_folder(folder: Path) -> None:
    """Makes the new name last through a power cut; only POSIX can open a folder."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _shown(path: str | os.PathLike[str]) -> str:
    return repr(os.fspath(path))
