from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import ConfigError, UnknownNameError
from netpress.pipeline.fields import all_fields, changed_fields, coerce, construct, parse_assignment, plain, read_yaml


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One field of each kind.

    Attributes:
        count: Whole.
    """

    count: int = 1
    share: float = 0.5
    flag: bool = False
    kind: Literal["a", "b"] = "a"
    ranks: tuple[int, ...] | None = None
    pair: tuple[int, float] = (1, 2.0)
    scale: Mapping[str, float] = field(default_factory=dict)


SAMPLES = st.builds(
    Sample,
    count=st.integers(),
    share=st.floats(allow_nan=False, allow_infinity=False),
    flag=st.booleans(),
    kind=st.sampled_from(["a", "b"]),
    ranks=st.none() | st.lists(st.integers()).map(tuple),
    pair=st.tuples(st.integers(), st.floats(allow_nan=False, allow_infinity=False)),
    scale=st.dictionaries(st.text("abc.", min_size=1), st.floats(0, 1)),
)


@settings(deadline=None)
@given(SAMPLES)
def test_through_yaml_and_back(sample: Sample) -> None:
    text = yaml.safe_dump(all_fields(sample))
    assert construct(Sample, read_yaml(text), owner="sample") == sample
    assert construct(Sample, changed_fields(sample), owner="sample") == sample


@settings(deadline=None)
@given(SAMPLES)
def test_each_field_through_an_assignment(sample: Sample) -> None:
    for name, value in all_fields(sample).items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10**6).removesuffix("\n").removesuffix("\n...")
        key, parsed = parse_assignment(f"{name}={text}")
        assert key == name
        assert getattr(construct(Sample, {key: parsed}, owner="sample"), name) == getattr(sample, name)


@settings(deadline=None)
@given(st.lists(st.integers(), min_size=2))
def test_numbers_between_commas_are_a_list(numbers: list[int]) -> None:
    assert parse_assignment("ranks=" + ",".join(map(str, numbers))) == ("ranks", numbers)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 1e-3),
        ("2E+4", 2e4),
        ("1.5e3", 1500.0),
        ("-1e1", -10.0),
        ("0.1", 0.1),
        ("3", 3),
        ("true", True),
        ("null", None),
        ("none", "none"),
        ("[1, 2]", [1, 2]),
        ("1e-3,2", [1e-3, 2]),
        ("features.24", "features.24"),
        ("e3", "e3"),
        ("'1e3'", "1e3"),
        ("layer1,layer2", ["layer1", "layer2"]),
        ("a=b", "a=b"),
    ],
)
def test_values_as_people_write_them(text: str, value: object) -> None:
    assert parse_assignment(f"x={text}") == ("x", value)
    assert type(parse_assignment(f"x={text}")[1]) is type(value)


@pytest.mark.parametrize("text", ["ranks", "=3", " =3", ""])
def test_no_assignment(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_assignment(text)
    assert str(caught.value) == f"a setting reads FIELD=VALUE; got: {text!r}; allowed: such as --set ranks=35,3,3"


def test_a_value_that_is_no_yaml() -> None:
    with pytest.raises(ConfigError, match=r"the value of 'ranks' cannot be read; got: '\[1, 2'; allowed: YAML"):
        parse_assignment("ranks=[1, 2")


def test_a_field_that_does_not_exist_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError) as caught:
        construct(Sample, {"cont": 3}, owner="ahosvd")
    assert str(caught.value).startswith("unknown field of ahosvd; got: 'cont'; allowed: count, flag, kind")
    assert caught.value.remedy == "did you mean 'count'?"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("count", 1.5, "m.count has the wrong type; got: 1.5 (float); allowed: int"),
        ("count", True, "m.count has the wrong type; got: True (bool); allowed: int"),
        ("share", "much", "m.share has the wrong type; got: 'much' (str); allowed: float"),
        ("share", False, "m.share has the wrong type; got: False (bool); allowed: float"),
        ("flag", 1, "m.flag has the wrong type; got: 1 (int); allowed: bool"),
        ("kind", "c", "m.kind has the wrong type; got: 'c' (str); allowed: 'a', 'b'"),
        ("ranks", [1, "x"], "m.ranks has the wrong type; got: [1, 'x'] (list); allowed: list of (int, ...) or null"),
        ("pair", [1], "m.pair has the wrong type; got: [1] (list); allowed: list of (int, float)"),
        ("scale", [1], "m.scale has the wrong type; got: [1] (list); allowed: Mapping"),
    ],
)
def test_a_value_of_the_wrong_type(name: str, value: object, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        construct(Sample, {name: value}, owner="m")
    assert str(caught.value) == said


def test_what_is_made_to_fit() -> None:
    assert construct(Sample, {"share": 1, "ranks": [3, 2], "pair": [1, 2]}, owner="m") == Sample(
        share=1.0, ranks=(3, 2), pair=(1, 2.0)
    )
    assert coerce(20, tuple[int, ...], where="hidden") == (20,)
    assert coerce([], tuple[int, ...], where="hidden") == ()
    assert plain(((1, 2), {"a": (3,)})) == [[1, 2], {"a": [3]}]
