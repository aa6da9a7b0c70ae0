"""Downloads that arrive whole and checked or not at all, without a network."""

from __future__ import annotations

import hashlib
import io
import tarfile
import urllib.error
from collections.abc import Callable
from contextlib import contextmanager

import pytest
from official_files import write_tar

from netpress.data.download import RemoteFile, extract, fetch
from netpress.errors import DataError

CONTENT = bytes(range(256)) * 4096


def remote(content: bytes = CONTENT, urls: tuple[str, ...] = ("https://a.example/f.bin",)) -> RemoteFile:
    return RemoteFile("f.bin", urls, len(content), hashlib.md5(content, usedforsecurity=False).hexdigest())


def answers(content: bytes, final_url: str | None = None) -> Callable:
    class Answer(io.BytesIO):
        url = ""

        def geturl(self) -> str:
            return final_url or self.url

    def opener(url: str) -> Answer:
        answer = Answer(content)
        answer.url = url
        return answer

    return opener


def refuses(url: str) -> None:
    raise urllib.error.URLError("no route to host")


class Recorder:
    def __init__(self) -> None:
        self.label, self.total, self.done = "", 0, 0

    @contextmanager
    def step(self, label: str, total: int | None = None):
        self.label, self.total = label, total
        yield self

    def advance(self, amount: int = 1, **notes: object) -> None:
        self.done += amount

    def say(self, text: str) -> None: ...


def test_a_file_arrives_with_progress(tmp_path) -> None:
    progress = Recorder()
    path = fetch(remote(), tmp_path / "new" / "folder", progress=progress, opener=answers(CONTENT))
    assert path == tmp_path / "new" / "folder" / "f.bin"
    assert path.read_bytes() == CONTENT
    assert (progress.label, progress.total, progress.done) == ("download f.bin", len(CONTENT), len(CONTENT))
    assert [p.name for p in path.parent.iterdir()] == ["f.bin"]


@pytest.mark.parametrize(
    ("opener", "text"),
    [
        (answers(CONTENT[:-1]), "sent 1,048,575 bytes"),
        (answers(CONTENT[:-1] + b"x"), "with MD5"),
        (answers(CONTENT + b"x"), "sent more than 1,048,576 bytes"),
        (answers(CONTENT, "http://b.example/f.bin"), "sent on to http://b.example/f.bin, which is not https"),
        (refuses, "no route to host"),
    ],
)
def test_what_is_not_the_file_leaves_nothing_behind(tmp_path, opener: Callable, text: str) -> None:
    with pytest.raises(DataError, match=text) as caught:
        fetch(remote(), tmp_path, opener=opener)
    assert str(tmp_path / "f.bin") in str(caught.value)  # where to put it by hand
    assert list(tmp_path.iterdir()) == []


def test_the_next_place_is_tried(tmp_path) -> None:
    def opener(url: str) -> io.BytesIO:
        return refuses(url) if "first" in url else answers(CONTENT)(url)

    file = remote(urls=("https://first.example/f", "https://second.example/f"))
    assert fetch(file, tmp_path, opener=opener).read_bytes() == CONTENT
    with pytest.raises(DataError, match=r"first\.example/f: .*; https://second\.example/f: "):
        fetch(file, tmp_path / "x", opener=refuses)


def test_only_https_is_used(tmp_path) -> None:
    with pytest.raises(DataError, match="only https is used"):
        fetch(remote(urls=("http://a.example/f.bin",)), tmp_path, opener=answers(CONTENT))


def test_an_older_file_stays_when_the_download_fails(tmp_path) -> None:
    (tmp_path / "f.bin").write_bytes(b"older")
    with pytest.raises(DataError):
        fetch(remote(), tmp_path, opener=refuses)
    assert (tmp_path / "f.bin").read_bytes() == b"older"


def test_extract_takes_the_named_files_only(tmp_path) -> None:
    archive = write_tar(
        tmp_path / "a.tar.gz", {"a.bin": b"1", "b.bin": b"22", "c.bin": b"333", "names": b"x"}, "deep/er"
    )
    folder = extract(archive, ["a.bin", "b.bin"], tmp_path / "out", optional=["names", "absent"])
    assert {p.name: p.read_bytes() for p in folder.iterdir()} == {"a.bin": b"1", "b.bin": b"22", "names": b"x"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.tar.gz", "out"]


def test_extract_never_writes_elsewhere_nor_follows_links(tmp_path) -> None:
    archive = tmp_path / "in" / "a.tar.gz"
    write_tar(archive, {"../../../evil.bin": b"evil"}, "x")
    extract(archive, ["evil.bin"], tmp_path / "in" / "out")
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("evil.bin")] == ["in/out/evil.bin"]

    link = tarfile.TarInfo("a.bin")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    with tarfile.open(archive, "w:gz") as tar:
        tar.addfile(link)
    with pytest.raises(DataError, match=r"lacks files; got: no a\.bin"):
        extract(archive, ["a.bin"], tmp_path / "in" / "other")
    assert not (tmp_path / "in" / "other").exists()


def test_a_damaged_archive(tmp_path) -> None:
    archive = write_tar(tmp_path / "a.tar.gz", {"a.bin": bytes(range(256)) * 500}, "x")
    archive.write_bytes(archive.read_bytes()[:200])
    with pytest.raises(DataError, match=r"cannot extract .*a\.tar\.gz to .*out"):
        extract(archive, ["a.bin"], tmp_path / "out")
    assert [p.name for p in tmp_path.iterdir()] == ["a.tar.gz"]
