"""Files are read once and written completely or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from netpress.artifact import container, disk
from netpress.errors import ArtifactError, NotAnArtifactError

PIECES = list(container.seal(b"structure", [b"payloads"]))


def test_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    assert disk.write_file(path, PIECES) == path.stat().st_size == len(b"".join(PIECES))
    assert disk.read_file(path) == b"".join(PIECES)
    assert os.listdir(tmp_path) == ["a.netpress"]


def test_permissions_follow_the_umask(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        disk.write_file(tmp_path / "a", PIECES)
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o640


def failing() -> Iterator[bytes]:
    yield b"half"
    raise KeyboardInterrupt


def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.netpress"
    path.write_bytes(b"old")
    with pytest.raises(KeyboardInterrupt):
        disk.write_file(path, failing())
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.netpress"]


def test_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "a.netpress"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ArtifactError, match=r"cannot be written; .*No space left on device; remedy: check the folder"):
        disk.write_file(path, PIECES)
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["a.netpress"]


def test_a_link_keeps_pointing(tmp_path: Path) -> None:
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to(tmp_path / "real")
    disk.write_file(tmp_path / "link", PIECES)
    assert (tmp_path / "link").is_symlink()
    assert disk.read_file(tmp_path / "real") == b"".join(PIECES)


def test_destinations_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"the folder does not exist; .*remedy: create it first"):
        disk.check_destination(tmp_path / "no" / "a.netpress")
    with pytest.raises(ArtifactError, match="cannot be overwritten: not a file"):
        disk.check_destination(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be overwritten: not a file"):
        disk.check_destination(os.devnull)
    with pytest.raises(ArtifactError, match="cannot be written"):
        disk.check_destination("a\0b")


def test_sources_that_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ArtifactError, match=r"does not exist; got: '.*nothing'; remedy: check the path"):
        disk.read_file(tmp_path / "nothing")
    with pytest.raises(ArtifactError, match="not a file"):
        disk.read_file(tmp_path)
    with pytest.raises(ArtifactError, match="cannot be read"):
        disk.read_file("a\0b")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtifactError, match="not a file"):
        disk.read_file(tmp_path / "pipe")


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a"
    disk.write_file(path, PIECES)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(ArtifactError, match=r"cannot be read; .*remedy: check the path and its permissions"):
        disk.read_file(path)


def test_a_large_file_of_another_kind_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "large"
    with open(path, "wb") as file:
        file.truncate(2**40)  # sparse: reading it whole would take a terabyte
    with pytest.raises(NotAnArtifactError):
        disk.read_file(path)
