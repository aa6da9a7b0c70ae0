"""Fetching official files: https only, checked by size and by the published sum, never half a file in its place."""

from __future__ import annotations

import hashlib
import os
import tarfile
import tempfile
import urllib.request
import zlib
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from http.client import HTTPException
from pathlib import Path
from typing import Protocol

from netpress.errors import DataError
from netpress.progress import Progress, SilentProgress

_BLOCK_BYTES = 1 << 18
_TIMEOUT_S = 30.0


@dataclass(frozen=True)
class RemoteFile:
    """A published file.

    Attributes:
        name: File name, also on disk.
        urls: Where it can be had, the official place or its mirrors, tried in this order.
        size_bytes: As published.
        md5: As published, 32 hex digits. It guards against damage, not against forgery; https does that.
    """

    name: str
    urls: tuple[str, ...]
    size_bytes: int
    md5: str


class Response(Protocol):
    """What is used of an answer to a request."""

    def read(self, size: int, /) -> bytes: ...

    def geturl(self) -> str: ...


Opener = Callable[[str], AbstractContextManager[Response]]


def _open_url(url: str) -> AbstractContextManager[Response]:
    request = urllib.request.Request(url, headers={"User-Agent": "netpress"})
    return urllib.request.urlopen(request, timeout=_TIMEOUT_S)


def fetch(file: RemoteFile, folder: Path, *, progress: Progress | None = None, opener: Opener = _open_url) -> Path:
    """Downloads a file into ``folder``. It appears there whole and checked, or not at all.

    Raises:
        DataError: Nobody answers, or what comes is not the published file; the text says where to put it by hand.
    """
    progress = progress or SilentProgress()
    failures = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DataError(
            f"cannot make the data folder {folder}", got=error, remedy="set NETPRESS_DATA to a writable folder"
        ) from error
    for url in file.urls:
        try:
            return _fetch_from(url, file, folder, progress, opener)
        except (OSError, HTTPException, _NotTheFileError) as error:
            failures.append(f"{url}: {error}")
    raise DataError(
        f"could not download {file.name}",
        got="; ".join(failures),
        allowed=f"{file.size_bytes:,} bytes with MD5 {file.md5}",
        remedy=f"fetch it by other means and put it at {folder / file.name}",
    )


class _NotTheFileError(Exception):
    """What came is not what was published."""


def _fetch_from(url: str, file: RemoteFile, folder: Path, progress: Progress, opener: Opener) -> Path:
    if not url.startswith("https://"):
        raise _NotTheFileError("only https is used")
    handle, temporary = tempfile.mkstemp(prefix=f".{file.name}.", suffix=".part", dir=folder)
    try:
        md5, received = hashlib.md5(usedforsecurity=False), 0
        with os.fdopen(handle, "wb") as target, opener(url) as response:
            if not response.geturl().startswith("https://"):
                raise _NotTheFileError(f"was sent on to {response.geturl()}, which is not https")
            with progress.step(f"download {file.name}", total=file.size_bytes) as step:
                while block := response.read(_BLOCK_BYTES):
                    received += len(block)
                    if received > file.size_bytes:
                        raise _NotTheFileError(f"sent more than {file.size_bytes:,} bytes")
                    target.write(block)
                    md5.update(block)
                    step.advance(len(block))
        if received != file.size_bytes or md5.hexdigest() != file.md5:
            raise _NotTheFileError(f"sent {received:,} bytes with MD5 {md5.hexdigest()}")
        os.replace(temporary, folder / file.name)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return folder / file.name


def extract(archive: Path, members: Iterable[str], folder: Path, optional: Iterable[str] = ()) -> Path:
    """Takes the named regular files out of a tar archive into ``folder``, whatever folder they lie in there.

    Nothing else is extracted, links are not followed, and the folder appears once it is complete.

    Raises:
        DataError: A damaged archive, a member that is missing, or a place that cannot be written.
    """
    wanted, optional = set(members), set(optional)
    try:
        with tempfile.TemporaryDirectory(prefix=f".{folder.name}.", dir=folder.parent) as temporary:
            with tarfile.open(archive) as tar:
                found = {
                    Path(info.name).name: info
                    for info in tar
                    if info.isreg() and Path(info.name).name in wanted | optional
                }
                if missing := sorted(wanted - set(found)):
                    raise DataError(
                        f"{archive} lacks files", got=f"no {', '.join(missing)}", remedy="fetch the archive again"
                    )
                for name, info in found.items():
                    tar.extract(info.replace(name=name, deep=False), temporary, filter="data")
            target = Path(temporary) / "complete"
            target.mkdir()
            for name in found:
                os.replace(Path(temporary) / name, target / name)
            os.replace(target, folder)
    except (tarfile.TarError, EOFError, zlib.error, OSError) as error:
        raise DataError(
            f"cannot extract {archive} to {folder}",
            got=f"{type(error).__name__}: {error}",
            remedy="fetch the archive again, make the folder writable, or extract it by hand",
        ) from error
    return folder
