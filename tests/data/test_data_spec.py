"""What a data spec says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.data.spec import Selection, parse_selection, parse_spec
from netpress.errors import ConfigError, DataError, UnknownNameError


@pytest.mark.parametrize(
    ("text", "source", "argument", "callable_name"),
    [
        ("cifar10", "cifar10", "", ""),
        ("npz:a/b c.npz", "npz", "a/b c.npz", ""),
        ("npz:C:\\a.npz", "npz", "C:\\a.npz", ""),
        ("folder:photos", "folder", "photos", ""),
        ("my/data.py:load", "python", "my/data.py", "load"),
        ("C:\\data.py:load", "python", "C:\\data.py", "load"),
    ],
)
def test_sources(text: str, source: str, argument: str, callable_name: str) -> None:
    spec = parse_spec(text)
    assert (spec.source, spec.argument, spec.callable) == (source, argument, callable_name)
    assert (spec.selections, spec.preprocess, spec.options) == ({}, {}, {})


def test_options() -> None:
    spec = parse_spec("folder:d?train=train[:40]&test=train[40:]&mean=.5,.4,.3&scale=1&size=32&channels=1")
    assert spec.selections == {"train": Selection("train", None, 40), "test": Selection("train", 40, None)}
    assert spec.preprocess == {"mean": (0.5, 0.4, 0.3), "scale": 1.0}
    assert spec.options == {"size": 32, "channels": 1}


@given(
    st.sampled_from(["train", "test"]),
    st.one_of(st.none(), st.integers(-50, 50)),
    st.one_of(st.none(), st.integers(-50, 50)),
)
def test_selections_choose_as_python_does(part: str, start: int | None, stop: int | None) -> None:
    selection = Selection(part, start, stop)
    assert parse_selection(selection.text) == selection
    expected = list(range(50))[start:stop]
    if expected:
        assert list(selection.rows(50)) == expected
    else:
        with pytest.raises(DataError, match=r"is empty; allowed: .* has 50 rows"):
            selection.rows(50)


@pytest.mark.parametrize("selection", [Selection("train", None, 51), Selection("train", -51, None)])
def test_rows_that_are_not_there_are_an_error(selection: Selection) -> None:
    with pytest.raises(DataError, match=r"goes beyond the data; got: -?51; allowed: train has 50 rows"):
        selection.rows(50)


@pytest.mark.parametrize(
    "text", ["valid", "train[1]", "train[::2]", "train[a:b]", "train[:5", "", "train[1:2]x", "Train"]
)
def test_bad_selections_say_what_is_allowed(text: str) -> None:
    with pytest.raises(
        ConfigError, match=r"cannot read the selection of rows; got: .*; allowed: train, test, or a run"
    ):
        parse_spec(f"digits?train={text}")


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("", ConfigError, "the data spec is empty; allowed: the name of a data set, npz:FILE"),
        ("npz:", ConfigError, "names no file; allowed: npz:FILE"),
        ("folder", ConfigError, "names no folder; allowed: folder:FOLDER"),
        ("data.py", ConfigError, "names no callable; got: 'data.py'; allowed: FILE.py:CALLABLE"),
        ("data.py:1x", ConfigError, "names no callable"),
        ("digits?", ConfigError, "cannot read '' in the data spec 'digits[?]'; allowed: OPTION=VALUE"),
        ("digits?train", ConfigError, "cannot read 'train' in the data spec"),
        ("digits?trian=train", UnknownNameError, "got: 'trian'; .* did you mean 'train'"),
        ("digits?size=8", UnknownNameError, "unknown option in the data spec 'digits[?]size=8'; got: 'size'"),
        ("folder:d?size=-1", ConfigError, "cannot read the option size; got: '-1'; allowed: a whole number, 1 or more"),
        ("digits?mean=a", ConfigError, "cannot read the option mean; got: 'a'"),
        ("digits?scale=1,2", ConfigError, "scale is one number"),
        ("digits?mean=1&mean=2", ConfigError, "mean is given twice"),
    ],
)
def test_bad_specs(text: str, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        parse_spec(text)
