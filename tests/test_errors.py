"""The exception tree and the texts it makes."""

from __future__ import annotations

import re

import pytest

from netpress import errors
from netpress.errors import ConfigError, MissingExtraError, NetpressError, UnknownNameError, nearest


def drawn_tree() -> dict[str, str | None]:
    """Name and parent of each class in the drawing at the head of ``errors``."""
    tree: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        found = re.match(r"^    ([│├└─ ]*)(\w+Error)\b", line)
        if found:
            depth = len(found.group(1)) // 4
            path[depth:] = [found.group(2)]
            tree[found.group(2)] = path[depth - 1] if depth else None
    return tree


def real_tree(cls: type[Exception] = NetpressError, parent: str | None = None) -> dict[str, str | None]:
    """The same of the classes themselves."""
    tree = {cls.__name__: parent}
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            tree |= real_tree(child, cls.__name__)
    return tree


def test_the_drawing_is_the_tree() -> None:
    assert drawn_tree() == real_tree()
    assert len(drawn_tree()) > 10


def test_every_error_of_the_module_is_in_the_tree() -> None:
    classes = {n for n, c in vars(errors).items() if isinstance(c, type) and issubclass(c, Exception)}
    assert classes == set(real_tree())


def test_the_text_has_four_parts_in_order() -> None:
    error = NetpressError("the rank is out of range", got=9, allowed="1 to 8", remedy="ask for less")
    assert str(error) == "the rank is out of range; got: 9; allowed: 1 to 8; remedy: ask for less"
    assert (error.what, error.got, error.allowed, error.remedy) == (
        "the rank is out of range",
        9,
        "1 to 8",
        "ask for less",
    )


def test_absent_parts_leave_no_trace_but_false_ones_are_told() -> None:
    assert str(NetpressError("it is empty")) == "it is empty"
    assert str(NetpressError("too few", got=0, allowed=False)) == "too few; got: 0; allowed: False"


def test_an_unknown_name_suggests_the_nearest() -> None:
    error = UnknownNameError("method", "ahosdv", ["pod", "mixer", "ahosvd"])
    assert str(error) == ("unknown method; got: 'ahosdv'; allowed: ahosvd, mixer, pod; remedy: did you mean 'ahosvd'?")
    assert error.nearest == ["ahosvd"]


def test_an_unknown_name_far_from_all_others_suggests_nothing() -> None:
    assert str(UnknownNameError("method", "zzz", ["pod"])) == "unknown method; got: 'zzz'; allowed: pod"
    assert str(UnknownNameError("method", "zzz", [])) == "unknown method; got: 'zzz'; allowed: nothing"


def test_a_given_remedy_is_kept() -> None:
    assert str(UnknownNameError("method", "pod", ["pod2"], remedy="install it")).endswith("; remedy: install it")


def test_a_missing_extra_says_how_to_install_it() -> None:
    assert str(MissingExtraError("timm", "vision", "timm:resnet18")) == (
        "timm:resnet18 needs the package 'timm', which is not installed; remedy: pip install \"netpress[vision]\""
    )


@pytest.mark.parametrize(
    ("cls", "builtin"),
    [(errors.ConfigError, ValueError), (errors.DataError, ValueError), (errors.MissingExtraError, ImportError)],
)
def test_errors_are_what_python_calls_them_too(cls: type[NetpressError], builtin: type[Exception]) -> None:
    assert issubclass(cls, builtin)


def test_nearest_orders_by_likeness_and_limits_their_number() -> None:
    assert nearest("resnet20", ["resnet56", "vgg16", "resnet20b", "resnet20"]) == ["resnet20", "resnet20b", "resnet56"]
    assert nearest("resnet20", ["resnet56", "resnet20b"], most=1) == ["resnet20b"]


def test_config_errors_can_be_caught_as_one() -> None:
    with pytest.raises(ConfigError):
        raise UnknownNameError("field", "rnk", ["rank"])
