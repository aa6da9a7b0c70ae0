from __future__ import annotations

from pathlib import Path

import pytest

from netpress.errors import ConfigError, UnknownNameError

NETWORK = "networks: [{net: tiny, weights: pretrained}]\n"
REST = NETWORK + "data: [digits]\nrecipes: [ahosvd]\n"


def test_a_plain_grid_is_one_stage_with_defaults(make_spec) -> None:
    spec = make_spec(REST)
    [stage] = spec.stages
    assert spec.title == "grid"
    assert (stage.name, stage.budgets, stage.seeds, stage.latency, dict(stage.train)) == (
        "main",
        (None,),
        (0,),
        True,
        {},
    )
    assert stage.networks[0].weights == "pretrained"
    assert stage.networks[0].name == "tiny"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (REST + "seed: [0]\n", ["'seed' in grid.yaml", "seeds", "did you mean 'seeds'"]),
        (REST.replace("net:", "nett:"), ["'networks[0].nett' in grid.yaml", "did you mean 'net'"]),
        ("data: [digits]\n", ["grid.yaml: the top level", "'networks' is missing"]),
        ("networks: []\n", ["grid.yaml: networks", "at least one item"]),
        ("networks: [{net: tiny}]\ndata: [d]\nrecipes: [r]\n", ["networks[0]", "got: neither"]),
        ("networks: [{net: t, weights: w, train: {}}]\n", ["networks[0]", "got: both"]),
        ("networks: [{net: t, weights: w, seed: 3}]\n", ["networks[0].seed", "belongs to 'train'"]),
        (NETWORK + "recipes: [ahosvd]\n", ["no data for the network 'tiny'"]),
        (NETWORK + "data: [digits]\n", ["'recipes' is missing"]),
        (REST + "seeds: [0, -1]\n", ["seeds[1]", "whole number", "-1"]),
        (REST + "seeds: [true]\n", ["seeds[0]", "True (bool)"]),
        (REST + "seeds: [1, 1]\n", ["two entries have one name", "'1'"]),
        (REST + "latency: 1\n", ["latency", "true or false"]),
        (REST + "budgets: ['parms=1%']\n", ["unknown budget metric", "did you mean 'params'"]),
        (REST + "budgets: ['params=10%', 'params=10.0%']\n", ["two entries have one name", "params=10%"]),
        (REST + "train: 3\n", ["train", "mapping of field: value"]),
        (REST + "exclude: [{recipe: mixr}]\n", ["unknown recipe in 'exclude'", "ahosvd"]),
        (REST + "only: [{}]\n", ["only[0]", "matches everything"]),
        (REST + "data: [digits]\n", ["no valid YAML", "'data' is given twice"]),
        (REST.replace("ahosvd", "{recipe: {methods: [x]}}"), ["recipes[0]", "needs a 'name'"]),
        (REST.replace("ahosvd", "{recipe: finetune, budgets: ['params=1%']}"), ["recipes[0].budgets", "no budget"]),
        (REST.replace("pretrained", "none.safetensors"), ["networks[0].weights", "no such file", "none.safetensors"]),
        ("- a\n", ["grid.yaml: the top level", "must be a mapping"]),
        ("a: !!python/object/apply:os.getcwd []\n", ["no valid YAML", "could not determine a constructor"]),
    ],
)
def test_errors_name_the_file_the_key_and_what_is_allowed(make_spec, text: str, says: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        make_spec(text)
    for part in says:
        assert part in str(caught.value)


def test_paths_start_at_the_file_and_variables_are_replaced(make_spec, tmp_path: Path) -> None:
    text = (
        "networks: [{net: tiny, weights: ./tiny.safetensors}]\nrecipes: [ahosvd]\n"
        'data: ["npz:${STORE}/c.npz?train=train[:10]", "folder:images", "mine.py:load?test=test", "digits"]\n'
    )
    spec = make_spec(text, STORE="/store")
    folder = spec.file.parent
    assert spec.stages[0].networks[0].weights == folder / "tiny.safetensors"
    assert [d.spec for d in spec.stages[0].data] == [
        "npz:/store/c.npz?train=train[:10]",
        f"folder:{folder}/images",
        f"{folder}/mine.py:load?test=test",
        "digits",
    ]
    # Names are for tables that are published: no folder in them.
    assert [d.name for d in spec.stages[0].data] == [
        "c.npz?train=train[:10]",
        "images",
        "mine.py:load?test=test",
        "digits",
    ]


@pytest.mark.parametrize(
    ("written", "says"), [("${NONE}/c.npz", "the variable 'NONE' is not set"), ("${NONE", "not closed")]
)
def test_unknown_variables_are_errors(make_spec, written: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says) as caught:
        make_spec(REST.replace("digits", f"'npz:{written}'"))
    assert "data[0]" in str(caught.value)


def test_a_recipe_file_becomes_its_content(make_spec, tmp_path: Path) -> None:
    (tmp_path / "spec").mkdir()
    (tmp_path / "spec" / "narrow.yaml").write_text("methods: [{ahosvd: {ranks: [1, 1, 1]}}]\n", encoding="utf-8")
    [recipe] = make_spec(REST.replace("ahosvd", "narrow.yaml")).stages[0].recipes
    assert recipe.name == "narrow"
    assert recipe.recipe == {"methods": [{"ahosvd": {"ranks": [1, 1, 1]}}]}


def test_two_data_sets_of_one_name_are_refused_and_a_name_can_be_used_again(make_spec) -> None:
    text = NETWORK + "recipes: [ahosvd]\ndata: [{name: d, spec: digits}]\nstages: [{name: a, data: [%s]}]\n"
    assert make_spec(text % "d").stages[0].data[0].spec == "digits"
    with pytest.raises(ConfigError, match="two data sets have one name"):
        make_spec(text % "{name: d, spec: cifar10}")


def test_stages_inherit_and_override(make_spec) -> None:
    spec = make_spec(
        REST
        + "train: {epochs: 1, lr: 0.1}\nseeds: [0, 1]\nstages:\n"
        + "  - {name: first, seeds: [5]}\n  - {name: last, best: 1, of: first, by: held_out, train: {epochs: 9}}\n"
    )
    first, last = spec.stages
    assert (first.seeds, last.seeds) == ((5,), (0, 1))
    assert (dict(first.train), dict(last.train)) == ({"epochs": 1, "lr": 0.1}, {"epochs": 9, "lr": 0.1})
    assert last.recipes == ()
    assert [r.name for r in spec.candidates(last)] == ["ahosvd"]


@pytest.mark.parametrize(
    ("keys", "says"),
    [
        ("best: 1, of: first, by: test", "never on the test set"),
        ("best: 1, of: frist, by: held_out", "did you mean 'first'"),
        ("best: 0, of: first, by: held_out", "1 or more"),
        ("best: 1, of: first", "the key 'by' is missing"),
    ],
)
def test_a_choice_is_by_held_out_quality_of_an_earlier_stage(make_spec, keys: str, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        make_spec(REST + f"stages: [{{name: first}}, {{name: last, {keys}}}]\n")


def test_a_stage_names_known_networks(make_spec) -> None:
    with pytest.raises(UnknownNameError, match="did you mean 'tiny'"):
        make_spec(REST + "stages: [{name: a, networks: [tny]}]\n")
