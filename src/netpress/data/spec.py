"""What a data spec says: ``SOURCE[:ARGUMENT][?OPTION=VALUE[&OPTION=VALUE ...]]``.

::

    cifar10
    npz:c.npz?train=train[:40000]&test=train[40000:]&labels=test
    folder:photos?size=32
    mydata.py:load?mean=.5&std=.5
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from netpress.errors import ConfigError, DataError, UnknownNameError

OPTIONS = ("train", "test", "labels", "scale", "mean", "std")
LABELS = ("all", "test", "none")
FOLDER_OPTIONS = ("size", "channels")
_SELECTION = re.compile(r"(train|test)(?:\[\s*([+-]?\d+)?\s*:\s*([+-]?\d+)?\s*\])?")
_SELECTION_FORMS = "train, test, or a run of one of them: train[:40000], train[40000:], test[100:200], train[-500:]"


@dataclass(frozen=True)
class Selection:
    """Rows ``start`` to ``stop`` (as Python counts them) of the source's ``part``."""

    part: str
    start: int | None = None
    stop: int | None = None

    @property
    def text(self) -> str:
        return f"{self.part}[{'' if self.start is None else self.start}:{'' if self.stop is None else self.stop}]"

    def rows(self, count: int) -> range:
        """The row numbers, of ``count`` there are.

        Raises:
            DataError: A bound beyond the part, or nothing between the bounds.
        """
        for bound in (self.start, self.stop):
            if bound is not None and not -count <= bound <= count:
                raise DataError(
                    f"the selection {self.text} goes beyond the data",
                    got=bound,
                    allowed=f"{self.part} has {count} rows",
                )
        rows = range(count)[self.start : self.stop]
        if not rows:
            raise DataError(f"the selection {self.text} is empty", allowed=f"{self.part} has {count} rows")
        return rows


@dataclass(frozen=True)
class Spec:
    """A parsed spec.

    Attributes:
        text: As it was typed.
        source: ``npz``, ``folder``, ``python``, or the name of a data set.
        argument: The file or folder; for ``python`` the file.
        callable: For ``python`` the name of the callable.
        selections: What to use as ``train`` and as ``test``, where the spec says so.
        preprocess: Replaced values of the preprocessing: scale, mean, std.
        options: The source's own options.
        labels: Which labels are kept: ``all``, those of ``test``, or ``none``.
    """

    text: str
    source: str
    argument: str = ""
    callable: str = ""
    selections: dict[str, Selection] = field(default_factory=dict)
    preprocess: dict[str, float | tuple[float, ...]] = field(default_factory=dict)
    options: dict[str, int] = field(default_factory=dict)
    labels: str = "all"


def parse_spec(text: str) -> Spec:
    """The parts of a spec. Whether its file, folder or data set exists is for the source to say.

    Raises:
        ConfigError: Empty, a missing argument, an unknown or repeated option, a value that cannot be read.
    """
    place, mark, query = text.partition("?")
    source, argument, name = _source(place.strip())
    known = OPTIONS + (FOLDER_OPTIONS if source == "folder" else ())
    selections: dict[str, Selection] = {}
    preprocess: dict[str, float | tuple[float, ...]] = {}
    options: dict[str, int] = {}
    labels = "all"
    seen: set[str] = set()
    for item in query.split("&") if mark else []:
        option, equals, value = item.partition("=")
        if not equals:
            raise ConfigError(
                f"cannot read {item!r} in the data spec {text!r}", allowed=f"OPTION=VALUE with {', '.join(known)}"
            )
        if option not in known:
            raise UnknownNameError(f"option in the data spec {text!r}", option, known)
        if option in seen:
            raise ConfigError(f"the option {option} is given twice in the data spec {text!r}", allowed="once")
        seen.add(option)
        if option in ("train", "test"):
            selections[option] = parse_selection(value)
        elif option == "labels":
            if value not in LABELS:
                raise ConfigError("cannot read the option labels", got=repr(value), allowed=", ".join(LABELS))
            labels = value
        elif option in FOLDER_OPTIONS:
            options[option] = _whole(option, value)
        else:
            numbers = _numbers(option, value)
            if option == "scale" and len(numbers) != 1:
                raise ConfigError("scale is one number", got=value, allowed="such as scale=0.00392157")
            preprocess[option] = numbers[0] if option == "scale" else numbers
    return Spec(text, source, argument, name, selections, preprocess, options, labels)


def parse_selection(text: str) -> Selection:
    """``train``, ``test[:500]``, ``train[40000:]``, ...

    Raises:
        ConfigError: Anything else; the text names what is allowed.
    """
    match = _SELECTION.fullmatch(text.strip())
    if match is None:
        raise ConfigError("cannot read the selection of rows", got=repr(text), allowed=_SELECTION_FORMS)
    part, start, stop = match.groups()
    return Selection(part, None if start is None else int(start), None if stop is None else int(stop))


def _source(place: str) -> tuple[str, str, str]:
    """(source, argument, callable). ``C:\\x.py:load`` is a file on drive C, so the last colon divides."""
    if not place:
        raise ConfigError(
            "the data spec is empty", allowed="the name of a data set, npz:FILE, folder:FOLDER or FILE.py:CALLABLE"
        )
    for source, form in (("npz", "npz:FILE"), ("folder", "folder:FOLDER")):
        if place.partition(":")[0] == source:
            argument = place.partition(":")[2]
            if not argument:
                raise ConfigError(
                    f"the data spec {place!r} names no {'file' if source == 'npz' else source}", allowed=form
                )
            return source, argument, ""
    file, _, name = place.rpartition(":")
    if file.endswith(".py"):
        if not name.isidentifier():
            raise ConfigError("the data spec names no callable", got=repr(place), allowed="FILE.py:CALLABLE")
        return "python", file, name
    if place.endswith(".py"):
        raise ConfigError("the data spec names no callable", got=repr(place), allowed="FILE.py:CALLABLE")
    return place, "", ""


def _whole(option: str, value: str) -> int:
    if not value.isdecimal() or int(value) < 1:
        raise ConfigError(f"cannot read the option {option}", got=repr(value), allowed="a whole number, 1 or more")
    return int(value)


def _numbers(option: str, value: str) -> tuple[float, ...]:
    try:
        return tuple(float(number) for number in value.split(","))
    except ValueError:
        raise ConfigError(
            f"cannot read the option {option}", got=repr(value), allowed="numbers, such as .4914,.4822,.4465"
        ) from None
