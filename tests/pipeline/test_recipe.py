from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from netpress.errors import ConfigError, UnknownNameError
from netpress.methods.ahosvd import AHOSVD
from netpress.methods.pod import POD
from netpress.pipeline import Recipe, method_names, recipe_names
from netpress.pipeline.fields import read_yaml
from netpress.training import Distillation

positive = st.floats(min_value=1e-8, max_value=1e3)
RECIPES = st.builds(
    Recipe,
    methods=st.lists(
        st.one_of(
            st.builds(
                AHOSVD,
                at=st.none() | st.text("abc.123", min_size=1),
                ranks=st.none() | st.tuples(*[st.integers(1, 512)] * 3),
                hidden=st.lists(st.integers(1, 99), max_size=3).map(tuple),
                map=st.sampled_from(["fnn", "pce", "tail"]),
                map_lr=positive,
                trainable=st.booleans(),
                energy=st.floats(0.01, 1),
            ),
            st.builds(POD, rank=st.none() | st.integers(1, 999), randomised=st.booleans()),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
    distill=st.none() | st.builds(Distillation, alpha=st.floats(0, 1), temperature=positive),
    hold_out=st.floats(0.001, 0.999),
    name=st.text(min_size=1).filter(lambda s: s.isprintable()),
)


@settings(deadline=None)
@given(RECIPES)
def test_through_yaml_json_and_back(recipe: Recipe) -> None:
    assert Recipe.read(recipe.as_dict()) == recipe
    assert Recipe.read(json.loads(json.dumps(recipe.as_dict()))) == recipe
    assert Recipe.read(read_yaml(recipe.to_yaml())) == recipe


def test_the_ways_to_name_a_recipe(tmp_path: Path) -> None:
    by_name = Recipe.read("ahosvd")
    assert by_name == Recipe.read(AHOSVD()) == Recipe.read({"methods": ["ahosvd"]}) == Recipe.read(by_name)
    assert by_name.name == "ahosvd"
    assert Recipe(methods=(AHOSVD(), POD())).name == "ahosvd+pod"
    for file, text in (
        ("r.yaml", "methods: [{ahosvd: {map_lr: 1e-3}}]\ntraining: {lr: 5e-2}\ndistill: none\n"),
        ("r.json", '{"methods": [{"ahosvd": {"map_lr": 1e-3}}], "training": {"lr": 0.05}, "distill": null}'),
    ):
        (tmp_path / file).write_text(text, encoding="utf-8")
        read = Recipe.read(tmp_path / file)
        assert read.methods == (AHOSVD(map_lr=1e-3),)
        assert read.training.lr == 0.05
        assert read.training.epochs == by_name.training.epochs  # what is not said stays
        assert read.distill is None
    assert Recipe.read({"methods": ["pod"], "distill": "published"}).distill == Distillation.preset("published")


def test_settings_find_their_field() -> None:
    recipe = Recipe.read({"methods": ["ahosvd", {"pod": {"rank": 4}}]}).with_settings(
        ["ranks=35,3,3", "pod.energy=.5", "epochs=7", "training.lr=1e-3", "alpha=0.3", "distill.temperature=2",
         "hold_out=.2", "name=mine", "map=pce"]
    )  # fmt: skip
    assert recipe.methods == (AHOSVD(ranks=(35, 3, 3), map="pce"), POD(rank=4, energy=0.5))
    assert (recipe.training.epochs, recipe.training.lr) == (7, 1e-3)
    assert recipe.distill is not None
    assert (recipe.distill.alpha, recipe.distill.temperature) == (0.3, 2.0)
    assert (recipe.hold_out, recipe.name) == (0.2, "mine")
    assert recipe.with_settings(["distill=none"]).distill is None
    assert recipe.with_settings({"distill": "none"}).with_settings({"alpha": 0.25}).distill == Distillation(alpha=0.25)
    assert Recipe.read("ahosvd").methods[0] == AHOSVD()  # settings make a copy


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("rnks=3", "unknown field of ahosvd; got: 'rnks'; allowed: "),
        ("ahosvd.rnks=3", "unknown field of ahosvd; got: 'rnks'; allowed: aggregation, at,"),
        ("training.epoch=3", "unknown field of a training plan; got: 'epoch'; allowed: augment,"),
        (
            "distill.alfa=1",
            "unknown field of distill; got: 'alfa'; allowed: alpha, label_smoothing, reduction, temperature",
        ),
        ("distill=publshed", "unknown preset of a distillation; got: 'publshed'; allowed: default, published"),
        ("pod.rank=3", "unknown field of ahosvd; got: 'pod.rank'"),
    ],
)
def test_unknown_settings_name_what_there_is(setting: str, said: str) -> None:
    with pytest.raises(UnknownNameError) as caught:
        Recipe.read("ahosvd").with_settings([setting])
    assert str(caught.value).startswith(said)
    wanted = {"rnks": "ranks", "ahosvd.rnks": "ranks", "training.epoch": "epochs", "distill.alfa": "alpha"}
    name = setting.partition("=")[0]
    if name in wanted:
        assert f"did you mean '{wanted[name]}'" in str(caught.value.remedy)


@pytest.mark.parametrize(
    ("setting", "said"),
    [
        ("energy=0", "energy is out of range; got: 0.0; allowed: above 0, at most 1"),
        ("map=cnn", "ahosvd.map has the wrong type; got: 'cnn' (str); allowed: 'fnn', 'pce', 'tail'"),
        ("hidden=0", "hidden has a width below 1; got: [0]; allowed: widths of at least 1"),
        ("map_lr=0", "degree, map_epochs or map_lr is out of range; got: 2, "),
        ("hold_out=1", "hold_out is out of range; got: 1.0; allowed: above 0 and below 1"),
        ("distill.alpha=2", "distill.alpha is out of range; got: 2.0; allowed: 0 to 1"),
        ("training.lr=-1", "training.lr has a wrong value; got: -1; allowed: above 0"),
        ("training.epochs=x", "training.epochs has a wrong value; got: 'x'"),
        ("distill=3", "--set: distill must be a mapping; got: 3; allowed: {field: value, ...}"),
    ],
)
def test_wrong_values(setting: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe.read("ahosvd").with_settings([setting])
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ({}, "the recipe needs a list of methods; got: None; allowed: such as [ahosvd]"),
        ({"methods": []}, "the recipe needs a list of methods; got: []"),
        ({"methods": "ahosvd"}, "the recipe needs a list of methods; got: 'ahosvd'"),
        ({"methods": [3]}, "the recipe: a method reads NAME or NAME: {field: value}; got: 3"),
        ({"methods": [{"ahosvd": 3}]}, "the recipe: ahosvd must be a mapping; got: 3; allowed: {field: value, ...}"),
        ({"methods": ["ahosv"]}, "unknown method; got: 'ahosv'; allowed: "),
        ({"metods": ["ahosvd"]}, "unknown key of the recipe; got: 'metods'; allowed: distill, hold_out, methods, name, training"),
        ({"methods": ["pod"], "training": 3}, "the recipe: training must be a mapping; got: 3"),
        ({"methods": ["pod"], "hold_out": "x"}, "the recipe: hold_out has the wrong type; got: 'x' (str); allowed: float"),
    ],
)  # fmt: skip
def test_wrong_documents(document: dict, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Recipe.read(document)
    assert str(caught.value).startswith(said)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match=r"unknown recipe; got: 'ahsvd'.*remedy: did you mean 'ahosvd'\?"):
        Recipe.read("ahsvd")
    with pytest.raises(
        UnknownNameError, match=r"remedy: give a method's name, a recipe's .* or the path of a YAML file"
    ):
        Recipe.read("zzzzzz")
    for text, said in (
        ("[1, 2", "cannot be read; got: while parsing"),
        ("- ahosvd", "is no mapping; got: list; allowed: keys name, methods, training, distill, hold_out"),
        ("", "is no mapping; got: NoneType"),
    ):
        file = tmp_path / "r.yaml"
        file.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError, match=said):
            Recipe.read(file)
    with pytest.raises(ConfigError, match=r"none\.yaml cannot be read; got: .*No such file"):
        Recipe.read(tmp_path / "none.yaml")
    (tmp_path / "bytes.yaml").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(ConfigError, match="cannot be read"):
        Recipe.read(tmp_path / "bytes.yaml")


@pytest.mark.parametrize("name", recipe_names())
def test_recipes_that_have_a_name(name: str) -> None:
    recipe = Recipe.read(name)
    assert recipe.name == name
    assert Recipe.read(recipe.as_dict()) == recipe
    assert name not in method_names()


def test_a_recipe_without_methods() -> None:
    with pytest.raises(ConfigError, match="a recipe needs at least one method; allowed: active_subspace, ahosvd"):
        Recipe(methods=())
