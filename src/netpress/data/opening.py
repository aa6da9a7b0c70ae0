"""From a data spec to a checked data set."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from netpress.data.arrays import open_npz, open_python
from netpress.data.catalogue import DATA_SETS, Source, default_root
from netpress.data.checking import check
from netpress.data.dataset import Data, Split
from netpress.data.folder import open_folder
from netpress.data.preprocess import Preprocess
from netpress.data.spec import Selection, Spec, parse_spec
from netpress.errors import ConfigError, DataError, UnknownNameError
from netpress.progress import Progress

_FORMS = ("npz:FILE", "folder:FOLDER", "FILE.py:CALLABLE")


def open_data(
    spec: str,
    *,
    root: Path | None = None,
    seed: int = 0,
    download: bool = True,
    progress: Progress | None = None,
) -> Data:
    """Opens a data set and checks it.

    Args:
        spec: ``digits``, ``cifar10``, ``cifar100``, ``stl10``, ``mnist``, ``svhn``, ``davis``, ``kiba``, ``npz:FILE``,
            ``folder:FOLDER`` or ``FILE.py:CALLABLE``. Options may follow: ``?train=train[:40000]&test=train[40000:]``
            chooses rows of the parts there are; ``labels=test`` leaves out those of the training images, ``labels=none``
            all; ``mean=``, ``std=`` and ``scale=`` replace the preprocessing; folders take ``size=32`` and ``channels=1``.
        root: Where official files are looked for and downloaded to; default the environment's ``NETPRESS_DATA``, or
            ``~/.cache/netpress/data``.
        seed: Of the images that are held out where a folder has no test part.
        download: Whether official files may be fetched.
        progress: Where downloads are announced.

    Raises:
        ConfigError: A spec that cannot be read; train and test that overlap.
        UnknownNameError: An unknown data set or option.
        MissingExtraError: A package that this source needs is absent.
        DataError: Data that are not there or cannot be used.
    """
    parsed = parse_spec(spec)
    source = Source(Path(root).expanduser() if root is not None else default_root(), download, progress)
    data = _without_labels(_select(_open(parsed, source, seed), parsed), parsed.labels)
    if parsed.preprocess:
        data = replace(data, preprocess=Preprocess.from_dict(data.preprocess.as_dict() | parsed.preprocess))
    return check(data)


def _open(spec: Spec, source: Source, seed: int) -> Data:
    path = Path(spec.argument).expanduser()
    if spec.source == "npz":
        return open_npz(path)
    if spec.source == "folder":
        return open_folder(path, size=spec.options.get("size"), channels=spec.options.get("channels"), seed=seed)
    if spec.source == "python":
        return open_python(path, spec.callable)
    if spec.source in DATA_SETS:
        return DATA_SETS[spec.source](source)
    lying = Path(spec.source).expanduser()
    remedy = None
    if lying.is_dir():
        remedy = f"did you mean 'folder:{spec.source}'?"
    elif lying.suffix == ".npz":
        remedy = f"did you mean 'npz:{spec.source}'?"
    raise UnknownNameError("data set", spec.source, [*DATA_SETS, *_FORMS], remedy=remedy)


def _without_labels(data: Data, labels: str) -> Data:
    if labels == "all":
        return data
    train = Split(data.train.images, None)
    test = data.test if labels == "test" else Split(data.test.images, None)
    return replace(data, name=f"{data.name}{'&' if '?' in data.name else '?'}labels={labels}", train=train, test=test)


def _select(data: Data, spec: Spec) -> Data:
    if len(data.test) == 0 and data.train.labels is None:
        data = replace(data, test=data.train)  # without labels there is nothing to judge, and nothing to set apart
    if len(data.test) == 0 and "test" not in spec.selections:
        raise DataError(
            f"{data.name} has no test part",
            allowed="x_test, or rows of train set aside",
            remedy=f"such as {spec.text}{'&' if '?' in spec.text else '?'}train=train[:-100]&test=train[-100:]",
        )
    if not spec.selections:
        return data
    parts = {"train": data.train, "test": data.test}
    chosen = {part: spec.selections.get(part, Selection(part)) for part in parts}
    rows = {part: selection.rows(len(parts[selection.part])) for part, selection in chosen.items()}
    if chosen["train"].part == chosen["test"].part:
        shared = range(max(r.start for r in rows.values()), min(r.stop for r in rows.values()))
        if shared:
            raise ConfigError(
                f"train and test share rows of {chosen['train'].part}",
                got=f"rows {shared.start} to {shared.stop - 1}",
                allowed="selections that do not overlap",
                remedy=f"such as train=train[:{rows['test'].start}]" if rows["test"].start else None,
            )
    train, test = (parts[chosen[part].part].take(rows[part]) for part in ("train", "test"))
    said = "&".join(f"{part}={selection.text}" for part, selection in spec.selections.items())
    return replace(data, name=f"{data.name}?{said}", train=train, test=test)
