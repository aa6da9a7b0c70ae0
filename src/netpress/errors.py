"""Everything netpress raises on purpose.

::

    NetpressError
    ├── ConfigError              what the user typed: a name, a field, a value, a recipe, a spec
    │   └── UnknownNameError     a name that nothing answers to; the text names the nearest
    ├── MissingExtraError        an optional package is absent; the text says which install brings it
    ├── DataError                data that cannot be used: empty, one class, labels out of range, NaN, wrong shape
    ├── WeightsError             weights that do not fit the network, or are not finite
    ├── GraphError               the network's graph
    │   ├── TraceError           the network cannot be traced
    │   ├── UnsupportedOperatorError   an operator outside the closed list
    │   └── CutError             a cut that does not exist or that a skip connection crosses
    ├── BudgetError              a budget that cannot be met; the text says how near it came
    ├── TrainingError            training that cannot go on (loss not finite, a checkpoint of another run)
    └── ArtifactError            a .netpress file
        ├── NotAnArtifactError   does not begin as one
        ├── VersionError         made by a later format version
        ├── TruncatedError       ends too early
        ├── ChecksumError        altered after it was written
        └── FormatError          well sealed, but its content breaks the format's rules

Every text says what is wrong, what was found, what is allowed and what to do, in that order.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NetpressError(Exception):
    """Base of all errors raised on purpose by netpress.

    Args:
        what: What is wrong, a sentence without its full stop.
        got: What was found instead.
        allowed: What would have been accepted.
        remedy: What the user can do now.
    """

    def __init__(self, what: str, *, got: object = None, allowed: object = None, remedy: str | None = None) -> None:
        self.what, self.got, self.allowed, self.remedy = what, got, allowed, remedy
        parts = [what]
        if got is not None:
            parts.append(f"got: {got}")
        if allowed is not None:
            parts.append(f"allowed: {allowed}")
        if remedy is not None:
            parts.append(f"remedy: {remedy}")
        super().__init__("; ".join(parts))


class ConfigError(NetpressError, ValueError): ...


class UnknownNameError(ConfigError):
    """A name that nothing answers to.

    Args:
        kind: What was looked up, such as ``"method"``.
        name: What the user typed.
        known: The names that exist; the nearest are suggested.
        remedy: Overrides the default advice.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], *, remedy: str | None = None) -> None:
        names = sorted(known)
        self.nearest = nearest(name, names)
        if remedy is None and self.nearest:
            remedy = f"did you mean {' or '.join(repr(n) for n in self.nearest)}?"
        super().__init__(f"unknown {kind}", got=repr(name), allowed=", ".join(names) or "nothing", remedy=remedy)


class MissingExtraError(NetpressError, ImportError):
    """An optional package is absent.

    Args:
        package: What could not be imported.
        extra: The extra of netpress that brings it.
        purpose: What it is needed for.
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}, which is not installed",
            remedy=f'pip install "netpress[{extra}]"',
        )


class DataError(NetpressError, ValueError): ...


class WeightsError(NetpressError, ValueError): ...


class GraphError(NetpressError): ...


class TraceError(GraphError): ...


class UnsupportedOperatorError(GraphError): ...


class CutError(GraphError, ValueError): ...


class BudgetError(NetpressError): ...


class TrainingError(NetpressError): ...


class ArtifactError(NetpressError): ...


class NotAnArtifactError(ArtifactError): ...


class VersionError(ArtifactError): ...


class TruncatedError(ArtifactError): ...


class ChecksumError(ArtifactError): ...


class FormatError(ArtifactError): ...


def nearest(name: str, known: Iterable[str], most: int = 3) -> list[str]:
    """The known names most like ``name``, best first."""
    return difflib.get_close_matches(name, list(known), n=most, cutoff=0.5)
