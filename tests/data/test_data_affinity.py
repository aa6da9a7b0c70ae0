"""Drug-target pairs, from small files in both layouts."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from netpress.data import ImageStream, Preprocess, Split, open_data
from netpress.data.affinity import PROTEIN_LETTERS, SMILES_CHARACTERS, Pairs, encode
from netpress.errors import ConfigError, DataError

SMILES = ["CC(=O)[N+]", "c1ccccc1Cl", "C#N" * 40]
SEQUENCES = ["MKV", "ACDW" * 400]
# drugs by proteins, nM; one pair was not measured
MATRIX = np.array([[10.0, 10_000.0], [np.nan, 43.0], [1.0, 100.0]])
PKD = [8.0, 5.0, 9 - np.log10(43.0), 9.0, 7.0]  # of the measured pairs, row by row


def prepared(folder: Path, name: str = "davis", **changes: Any) -> None:
    """The layout of two files; ``changes`` replace arrays, or parts of the texts."""
    drug_of, protein_of = np.nonzero(~np.isnan(MATRIX))
    arrays = {
        "pair_ligand": drug_of.astype(np.uint16),
        "pair_protein": protein_of.astype(np.uint16),
        "pair_label": np.array(PKD),
        "pair_fold": np.array([0, 5, 1, 2, 5], np.uint8),
    }
    texts: dict[str, Any] = {
        "dataset": name,
        "ligands": [{"id": str(k), "smiles": text, "smiles_iso": "@"} for k, text in enumerate(SMILES)],
        "proteins": [{"id": str(k), "sequence": text} for k, text in enumerate(SEQUENCES)],
    }
    for key, value in changes.items():
        (arrays if key in arrays else texts)[key] = value
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / f"{name}.npz", **{key: value for key, value in arrays.items() if value is not None})
    (folder / f"{name}.json").write_text(json.dumps(texts))


def published(folder: Path, train: Any = ((0, 2), (3,)), test: Any = (4, 1)) -> Path:
    """DeepDTA's own layout, but for the matrix."""
    (folder / "folds").mkdir(parents=True)
    (folder / "ligands_can.txt").write_text(json.dumps({f"d{k}": text for k, text in enumerate(SMILES)}))
    (folder / "proteins.txt").write_text(json.dumps({f"p{k}": text for k, text in enumerate(SEQUENCES)}))
    (folder / "folds" / "train_fold_setting1.txt").write_text(json.dumps(train))
    (folder / "folds" / "test_fold_setting1.txt").write_text(json.dumps(test))
    return folder


def row(drug: int, protein: int) -> list[int]:
    """One input by the definition: numbers from 1 in the alphabets, cut off or filled up with 0."""
    drug_tokens = [SMILES_CHARACTERS.index(c) + 1 for c in SMILES[drug]][:85]
    protein_tokens = [PROTEIN_LETTERS.index(c) + 1 for c in SEQUENCES[protein]][:1200]
    filled = drug_tokens + [0] * (85 - len(drug_tokens))
    return filled + protein_tokens + [0] * (1200 - len(protein_tokens))


def test_the_published_tables() -> None:
    # Of DeepDTA's tables: the first, some within, and the last.
    assert [SMILES_CHARACTERS.index(c) + 1 for c in "(.\\@#C[]cy"] == [1, 2, 20, 8, 29, 42, 53, 54, 56, 64]
    assert [PROTEIN_LETTERS.index(c) + 1 for c in "ACBLVZ"] == [1, 2, 3, 12, 22, 25]
    assert (len(set(SMILES_CHARACTERS)), len(set(PROTEIN_LETTERS))) == (64, 25)


@pytest.mark.parametrize("place", [".", "dta"])
def test_two_files(tmp_path: Path, place: str) -> None:
    prepared(tmp_path / place)
    data = open_data("davis", root=tmp_path)
    assert (data.name, data.task, data.classes) == ("davis", "regression", ())
    assert data.train.images[np.arange(3)].tolist() == [row(0, 0), row(1, 1), row(2, 0)]
    assert data.test.images[np.arange(2)].tolist() == [row(0, 1), row(2, 1)]
    assert data.train.labels.dtype == np.float32
    np.testing.assert_allclose(data.train.labels, [8.0, 9 - np.log10(43), 9.0], rtol=1e-6)
    np.testing.assert_allclose(data.test.labels, [5.0, 7.0])
    x = data.preprocess(data.train.images[np.arange(1)])
    assert (x.dtype, x.tolist()) == (torch.int64, [row(0, 0)])


@pytest.mark.parametrize("suffix", ["npy", "txt", "csv", "tsv"])
@pytest.mark.parametrize(("name", "place"), [("davis", "."), ("kiba", "dta")])
def test_deepdta_folder(tmp_path: Path, suffix: str, name: str, place: str) -> None:
    folder = published(tmp_path / place / name)
    if suffix == "npy":
        np.save(folder / "Y.npy", MATRIX)
    else:
        np.savetxt(folder / f"Y.{suffix}", MATRIX, delimiter={"csv": ",", "tsv": "\t"}.get(suffix, " "))
    data = open_data(name, root=tmp_path)
    assert data.train.images[np.arange(3)].tolist() == [row(0, 0), row(1, 1), row(2, 0)]
    assert data.test.images[np.arange(2)].tolist() == [row(2, 1), row(0, 1)]
    # Constants become pKd; scores of KIBA stay.
    expected = [7.0, 5.0] if name == "davis" else [100.0, 10_000.0]
    np.testing.assert_allclose(data.test.labels, expected)


def test_pickles_are_never_read(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "run",))

    folder = published(tmp_path / "davis")
    (folder / "Y").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(DataError, match=r"pickles can run code; .*allowed: Y\.npy or .*numpy\.save"):
        open_data("davis", root=tmp_path)
    (folder / "Y").unlink()
    with pytest.raises(DataError, match="there is no matrix of affinities"):
        open_data("davis", root=tmp_path)
    np.save(folder / "Y.npy", np.array([[Bomb()]], object), allow_pickle=True)
    with pytest.raises(DataError, match=r"cannot read .*Y\.npy"):
        open_data("davis", root=tmp_path)
    assert not (tmp_path / "run").exists()


def test_absent_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"kiba: no files in .*kiba\.npz beside kiba\.json.*remedy: put the folder"):
        open_data("kiba", root=tmp_path)
    prepared(tmp_path)
    (tmp_path / "davis.npz").unlink()
    with pytest.raises(DataError, match=r"davis\.json is there without davis\.npz"):
        open_data("davis", root=tmp_path)
    folder = published(tmp_path / "kiba")
    np.save(folder / "Y.npy", MATRIX)
    (folder / "folds" / "test_fold_setting1.txt").unlink()
    with pytest.raises(DataError, match=r"there is no such file; got: .*test_fold_setting1\.txt"):
        open_data("kiba", root=tmp_path)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"pair_ligand": np.array([0, 0, 1, 2, 3])}, "pairs name drugs that are not there; got: numbers 0 to 3"),
        ({"pair_protein": np.array([0, -1, 1, 0, 1])}, "pairs name proteins that are not there; got: numbers -1 to 1"),
        ({"pair_ligand": np.array([0.0, 0, 1, 2, 2])}, "pair_ligand is no column of whole numbers"),
        ({"pair_label": np.array([1, 2, 3, 4, 5])}, "pair_label is no column of numbers"),
        ({"pair_label": np.array([1.0, 2, np.nan, 4, 5])}, "labels that are not finite"),
        ({"pair_label": np.array([1.0, 2])}, "the columns differ in length"),
        ({"pair_fold": np.array([0, 5, 6, 0, 0])}, "folds out of range; got: 6"),
        ({"pair_fold": np.array([0, 0, 0, 0, 0])}, "davis has no test part"),
        ({"pair_fold": None}, "arrays are missing; got: no pair_fold"),
        ({"ligands": [{"id": "a"}]}, "there is no list 'ligands' of objects with a text 'smiles'"),
        ({"proteins": "MKV"}, "there is no list 'proteins'"),
        ({"ligands": [{"smiles": t} for t in ("CC~C", "C", "C")]}, "drug 0 cannot be encoded; got: '~' at place 2"),
        (
            {"ligands": [{"smiles": t} for t in ("C", "C\u03b2", "C")]},
            "drug 1 cannot be encoded; got: '\u03b2' at place 1",
        ),
        ({"proteins": [{"sequence": t} for t in ("MKV", "")]}, "protein 1 cannot be encoded; got: an empty text"),
        ({"proteins": [{"sequence": t} for t in ("MKV", "mk")]}, "protein 1 cannot be encoded; got: 'm' at place 0"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, changes: dict[str, Any], text: str) -> None:
    prepared(tmp_path, **changes)
    with pytest.raises(DataError, match=text):
        open_data("davis", root=tmp_path)


@pytest.mark.parametrize(
    ("train", "test", "text"),
    [
        ([[0, 1]], [1], "folds that overlap"),
        ([[0, 5]], [1], "these are no rows of the matrix; allowed: whole numbers from 0 to 4"),
        ([[0, True]], [2], "these are no rows of the matrix"),
        ({"0": 1}, [2], "is no list of folds"),
        ([0, 1], [2], "these are no rows of the matrix"),
        ([], [2], "train is empty"),
    ],
)
def test_wrong_folds(tmp_path: Path, train: Any, test: Any, text: str) -> None:
    np.save(published(tmp_path / "davis", train, test) / "Y.npy", MATRIX)
    with pytest.raises(DataError, match=text):
        open_data("davis", root=tmp_path)


def test_wrong_matrices(tmp_path: Path) -> None:
    folder = published(tmp_path / "davis")
    np.save(folder / "Y.npy", MATRIX.T)
    with pytest.raises(DataError, match=r"does not fit the drugs and proteins; got: float64 of shape \(2, 3\)"):
        open_data("davis", root=tmp_path)
    np.save(folder / "Y.npy", -MATRIX)
    with pytest.raises(DataError, match="dissociation constants out of range; got: -10000"):
        open_data("davis", root=tmp_path)
    (folder / "Y.npy").write_bytes(b"no array")
    with pytest.raises(DataError, match="cannot read"):
        open_data("davis", root=tmp_path)
    (folder / "proteins.txt").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"cannot read .*proteins\.txt"):
        open_data("davis", root=tmp_path)


@given(st.lists(st.text(SMILES_CHARACTERS, min_size=1, max_size=12), max_size=5), st.integers(1, 10))
def test_encoding_keeps_what_fits(texts: list[str], length: int) -> None:
    tokens = encode(texts, SMILES_CHARACTERS, length, "text")
    assert tokens.shape == (len(texts), length)
    assert ["".join(SMILES_CHARACTERS[t - 1] for t in line if t) for line in tokens] == [t[:length] for t in texts]


def pairs() -> Pairs:
    rng = np.random.default_rng(0)
    drugs, proteins = (rng.integers(1, 26, (count, length), np.uint8) for count, length in ((4, 3), (5, 7)))
    return Pairs(drugs, proteins, rng.integers(0, 4, 30), rng.integers(0, 5, 30))


@pytest.mark.parametrize("rows", [np.array([7, 0, 7]), slice(3, 9), np.arange(30) % 3 == 0, np.array([], np.int64), 4])
def test_rows_are_those_of_the_stored_array(rows: Any) -> None:
    lazy = pairs()
    whole = np.array([[*lazy.drugs[d], *lazy.proteins[p]] for d, p in zip(lazy.drug_of, lazy.protein_of, strict=True)])
    np.testing.assert_array_equal(lazy[rows], whole[rows])
    assert (lazy.shape, lazy.dtype, len(lazy)) == (whole.shape, np.uint8, 30)


def test_held_out_pairs_flow_through_a_stream() -> None:
    split = Split(pairs(), np.arange(30, dtype=np.float32))
    fit, held = split.hold_out(0.2, seed=1)
    assert (len(fit), len(held)) == (24, 6)
    assert sorted([*fit.labels, *held.labels]) == list(range(30))
    data_rows = split.images[np.arange(30)]
    stream = ImageStream(fit, Preprocess(indices=True), batch_size=7, shuffle=True, seed=3)
    seen = []
    for x, y in stream.batches(0):
        assert x.dtype == torch.int64
        np.testing.assert_array_equal(x.numpy(), data_rows[y.numpy().astype(int)])
        seen += y.tolist()
    assert sorted(seen) == sorted(fit.labels.tolist())


def test_the_fingerprint_sees_every_part() -> None:
    def fingerprint(**changes: Any) -> str:
        lazy = pairs()
        for name, value in changes.items():
            getattr(lazy, name).flat[0] = value
        return Split(lazy).fingerprint()

    changed = [fingerprint(**{name: 0}) for name in ("drugs", "proteins")]
    changed += [fingerprint(**{name: (int(getattr(pairs(), name)[0]) + 1) % 4}) for name in ("drug_of", "protein_of")]
    assert len({fingerprint(), *changed}) == 5


def test_selections_and_scaling(tmp_path: Path) -> None:
    prepared(tmp_path)
    data = open_data("davis?train=train[1:]&test=test[:1]", root=tmp_path)
    assert data.train.images[np.arange(2)].tolist() == [row(1, 1), row(2, 0)]
    with pytest.raises(ConfigError, match="indices cannot be scaled"):
        open_data("davis?scale=0.5", root=tmp_path)
