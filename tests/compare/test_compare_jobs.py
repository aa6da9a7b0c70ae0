from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from netpress.compare import jobs as module
from netpress.compare.jobs import CompareJob, canonical, jobs_of, key_of, keyed

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@pytest.fixture
def job(make_spec) -> CompareJob:
    return jobs_of(make_spec().stages[0])[2]


def test_the_grid_is_the_product_and_a_reference_has_no_budget(make_spec) -> None:
    jobs = jobs_of(make_spec().stages[0])
    assert [(j.recipe.name, j.budget, j.seed) for j in jobs] == [
        ("finetune", None, 0),
        ("finetune", None, 1),
        ("thin", "params=13%", 0),
        ("thin", "params=13%", 1),
        ("mixer", "params=13%", 0),
        ("mixer", "params=13%", 1),
    ]


def test_filters_keep_and_take_away(make_spec) -> None:
    text = (
        "networks: [{net: a, weights: w}, {net: b, weights: w}]\ndata: [d]\nrecipes: [r, s]\nseeds: [0, 1]\n"
        "only: [{network: a}, {recipe: s, seed: [1]}]\nexclude: [{network: a, recipe: r, seed: 0}]\n"
    )
    jobs = jobs_of(make_spec(text).stages[0])
    assert [(j.network.name, j.recipe.name, j.seed) for j in jobs] == [
        ("a", "r", 1),
        ("a", "s", 0),
        ("a", "s", 1),
        ("b", "s", 1),
    ]


CHANGES: dict[str, Any] = {
    "budget": {"budget": "params=14%"},
    "no budget": {"budget": None},
    "seed": {"seed": 7},
    "latency": {"latency": False},
    "plan": {"train": {"epochs": 3}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_the_key_changes_with_each_field_of_the_job(job: CompareJob, stand_ins, name: str) -> None:
    resolve, _ = stand_ins
    assert keyed(dataclasses.replace(job, **CHANGES[name]), resolve).key != keyed(job, resolve).key


def test_the_key_changes_with_cut_weights_recipe_and_every_resolved_part(job: CompareJob, stand_ins) -> None:
    resolve, _ = stand_ins
    before = keyed(job, resolve).key
    network = dataclasses.replace(job.network, at="block3")
    keys = {before, keyed(dataclasses.replace(job, network=network), resolve).key}
    recipe = dataclasses.replace(job.recipe, settings={"ranks": [5, 2, 2]})
    keys.add(keyed(dataclasses.replace(job, recipe=recipe), resolve).key)
    names = ("network", "weights", "data", "plan", "device")
    for name in names:
        keys.add(keyed(job, lambda j, name=name: {**resolve(j), name: "another"}).key)
    assert len(keys) == 3 + len(names)


def test_the_key_changes_with_the_versions(job: CompareJob, stand_ins, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve, _ = stand_ins
    before = keyed(job, resolve).key
    monkeypatch.setattr(module, "__version__", "99.0")
    assert keyed(job, resolve).key != before


def test_the_key_does_not_change_with_names_stages_and_paths(job: CompareJob, stand_ins, tmp_path: Path) -> None:
    resolve, _ = stand_ins
    elsewhere = tmp_path / "copy.safetensors"
    assert isinstance(job.network.weights, Path)
    elsewhere.write_bytes(job.network.weights.read_bytes())
    other = dataclasses.replace(
        job,
        stage="another",
        network=dataclasses.replace(job.network, name="other", weights=elsewhere),
        data=dataclasses.replace(job.data, spec="npz:/elsewhere/d.npz"),
        recipe=dataclasses.replace(job.recipe, name="renamed"),
    )
    assert keyed(other, resolve).key == keyed(job, resolve).key


def test_a_trained_teacher_decides_too_and_is_shared_by_all_seeds(make_spec, stand_ins) -> None:
    resolve, _ = stand_ins
    text = "networks: [{net: t, train: {epochs: %d}, seed: %d}]\ndata: [d]\nrecipes: [r]\nseeds: [0, 1]\n"

    def pair(epochs: int, seed: int) -> list[Any]:
        return [keyed(j, resolve) for j in jobs_of(make_spec(text % (epochs, seed)).stages[0])]

    first, second = pair(1, 0)
    assert first.teacher.key == second.teacher.key
    assert first.key != second.key
    for other in (pair(2, 0)[0], pair(1, 4)[0]):
        assert other.teacher.key != first.teacher.key
        assert other.key != first.key


def test_content_that_is_not_complete_is_refused(job: CompareJob) -> None:
    with pytest.raises(ValueError, match="lacks weights, recipe, plan, device"):
        keyed(job, lambda j: {"network": "n", "data": "d"})


@given(PLAIN)
def test_equal_values_have_equal_texts_whatever_the_order(value: Any) -> None:
    def reversed_keys(v: Any) -> Any:
        if isinstance(v, dict):
            return {k: reversed_keys(v[k]) for k in reversed(list(v))}
        return [reversed_keys(i) for i in v] if isinstance(v, list) else v

    assert canonical(value) == canonical(reversed_keys(value))


def test_a_key_by_hand() -> None:
    # printf '{"a":[1,null],"b":"é"}' | sha256sum
    assert canonical({"b": "é", "a": (1, None)}) == '{"a":[1,null],"b":"é"}'
    assert key_of({"b": "é", "a": [1, None]}) == "e03c3c1ebb5fccd76e3bd35b9a86169f35e6f1b069645d48ac278175f54c4208"
    with pytest.raises(ValueError, match="not JSON compliant"):
        key_of({"x": float("nan")})
