"""Drug-target affinity: DAVIS and KIBA as DeepDTA prepares them (Öztürk, Özgür, Ozkirimli, "DeepDTA: deep drug-target
binding affinity prediction", Bioinformatics 34(17), 2018).

One input is a row of 85 + 1200 whole numbers: the characters of a drug's canonical SMILES string, then the letters of a
protein's sequence, each by its number in the published tables, cut off or filled up with 0. Few drugs and few proteins
make many pairs, so a row is put together when it is asked for.
"""

from __future__ import annotations

import hashlib
import json
import zipfile
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.data.dataset import Data, Split
from netpress.data.preprocess import Preprocess
from netpress.errors import DataError

DRUG_LENGTH, PROTEIN_LENGTH = 85, 1200

# The n-th character has the number n; 0 fills up. The order is that of DeepDTA's tables, so that networks can be exchanged.
SMILES_CHARACTERS = "(.02468@BDFHLNPRTVZ\\bdfhlnrt#%)+-/13579=ACEGIKMOSUWY[]acegimosuy"
PROTEIN_LETTERS = "ACBEDGFIHKMLONQPSRUTWVYXZ"

TEST_FOLD = 5  # of 0 to 5; the others are for training
_TABLES = ("pair_ligand", "pair_protein", "pair_label", "pair_fold")
_MATRIX_NAMES = ("Y.npy", "Y.txt", "Y.csv", "Y.tsv")
_MOST_JSON_BYTES = 1 << 28


class Pairs:
    """Pairs of a drug and a protein as rows of tokens; an array-like of shape (N, drug length + protein length), uint8.

    Args:
        drugs: (D, drug length) uint8 tokens.
        proteins: (P, protein length) uint8 tokens.
        drug_of: (N,) which drug each pair has.
        protein_of: (N,) which protein each pair has.
    """

    def __init__(
        self,
        drugs: NDArray[np.uint8],
        proteins: NDArray[np.uint8],
        drug_of: NDArray[np.int64],
        protein_of: NDArray[np.int64],
    ) -> None:
        self.drugs, self.proteins, self.drug_of, self.protein_of = drugs, proteins, drug_of, protein_of

    @property
    def shape(self) -> tuple[int, ...]:
        return (len(self.drug_of), self.drugs.shape[1] + self.proteins.shape[1])

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.drugs.dtype

    def __len__(self) -> int:
        return len(self.drug_of)

    def __getitem__(self, rows: Any, /) -> NDArray[Any]:
        pair = self.drugs[self.drug_of[rows]], self.proteins[self.protein_of[rows]]
        return np.concatenate(pair, axis=-1)  # (n, drug length + protein length)

    def identity(self) -> bytes:
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.drugs, self.proteins, self.drug_of, self.protein_of):
            digest.update(f"{part.dtype.str}{part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
        return digest.digest()


@dataclass(frozen=True)
class _Table:
    """What either layout of files says.

    Attributes:
        smiles, sequences: Texts of the drugs and of the proteins.
        drug_of, protein_of: (N,) int64.
        labels: (N,) float.
        test: (N,) whether a pair is for testing.
    """

    smiles: list[str]
    sequences: list[str]
    drug_of: NDArray[np.int64]
    protein_of: NDArray[np.int64]
    labels: NDArray[np.float64]
    test: NDArray[np.bool_]


def open_affinity(name: str, root: Path, *, kd: bool) -> Data:
    """A data set of drug-target affinities, as a regression.

    Two layouts are looked for in ``root`` and in ``root/dta``:

    - ``NAME.npz`` (``pair_ligand``, ``pair_protein``, ``pair_label``, ``pair_fold``, all (N,); folds 0 to 4 train, 5
      tests) beside ``NAME.json`` (lists ``ligands`` with ``smiles`` and ``proteins`` with ``sequence``);
    - the folder ``NAME`` as DeepDTA publishes it: ``ligands_can.txt``, ``proteins.txt``,
      ``folds/train_fold_setting1.txt`` and ``folds/test_fold_setting1.txt``, with the matrix of affinities (drugs by
      proteins, nan where nothing was measured) as ``Y.npy``, ``Y.txt``, ``Y.csv`` or ``Y.tsv``. The published ``Y`` is
      a pickle, which can run code, and is never read.

    Args:
        name: Of the data set and of its files.
        root: The user's data folder.
        kd: Whether DeepDTA's matrix holds dissociation constants in nM, of which pKd = 9 - log10(Kd) is the label.

    Raises:
        DataError: No files, or files that are incomplete, damaged or do not fit together.
    """
    places = [root, root / "dta"]
    for place in places:
        if (place / f"{name}.npz").is_file() or (place / f"{name}.json").is_file():
            return _data(name, _prepared(place / f"{name}.npz", place / f"{name}.json"))
    for place in places:
        if (place / name / "ligands_can.txt").is_file():
            return _data(name, _published(place / name, kd))
    raise DataError(
        f"{name}: no files in {root}",
        allowed=f"{name}.npz beside {name}.json, or the folder {name} of DeepDTA's data",
        remedy=f"put the folder data/{name} of https://github.com/hkmztrk/DeepDTA into {root}, with Y written as Y.npy",
    )


def encode(texts: Iterable[str], alphabet: str, length: int, what: str) -> NDArray[np.uint8]:
    """Texts as rows of tokens: the first ``length`` characters by their number in ``alphabet`` from 1, then 0.

    Args:
        what: What the texts are, for the error.

    Raises:
        DataError: A character that is not in the alphabet, or an empty text.
    """
    number = np.zeros(256, np.uint8)
    number[np.frombuffer(alphabet.encode("latin-1"), np.uint8)] = np.arange(1, len(alphabet) + 1)
    rows = []
    for k, text in enumerate(texts):
        begin = text[:length]
        tokens = number[np.frombuffer(begin.encode("latin-1", "replace"), np.uint8)]
        if not begin or not tokens.all():
            place = int(np.argmin(tokens)) if begin else 0
            raise DataError(
                f"{what} {k} cannot be encoded",
                got=f"{begin[place]!r} at place {place}" if begin else "an empty text",
                allowed=f"the {len(alphabet)} characters {alphabet}",
            )
        rows.append(np.pad(tokens, (0, length - len(tokens))))
    return np.stack(rows) if rows else np.zeros((0, length), np.uint8)


def _data(name: str, table: _Table) -> Data:
    for what, chosen, texts in (
        ("drugs", table.drug_of, table.smiles),
        ("proteins", table.protein_of, table.sequences),
    ):
        if len(chosen) and not 0 <= int(chosen.min()) <= int(chosen.max()) < len(texts):
            raise DataError(
                f"{name}: pairs name {what} that are not there",
                got=f"numbers {chosen.min()} to {chosen.max()}",
                allowed=f"0 to {len(texts) - 1}",
            )
    drugs = encode(table.smiles, SMILES_CHARACTERS, DRUG_LENGTH, f"{name}: the SMILES string of drug")
    proteins = encode(table.sequences, PROTEIN_LETTERS, PROTEIN_LENGTH, f"{name}: the sequence of protein")
    train, test = (
        Split(
            Pairs(drugs, proteins, table.drug_of[rows], table.protein_of[rows]), table.labels[rows].astype(np.float32)
        )
        for rows in (np.flatnonzero(~table.test), np.flatnonzero(table.test))
    )
    return Data(name, train, test, task="regression", preprocess=Preprocess(indices=True))


def _prepared(arrays: Path, texts: Path) -> _Table:
    """``NAME.npz`` and ``NAME.json``."""
    for path, other in ((arrays, texts), (texts, arrays)):
        if not path.is_file():
            raise DataError(
                f"{other.name} is there without {path.name}", got=f"no {path}", remedy=f"put {path.name} beside it"
            )
    columns = _arrays(arrays, _TABLES)
    lengths = {column.shape for column in columns.values()}
    if len(lengths) != 1 or len(next(iter(lengths))) != 1:
        raise DataError(
            f"{arrays}: the columns differ in length",
            got=", ".join(f"{name} {column.shape}" for name, column in columns.items()),
            allowed="(N,) each",
        )
    for name in ("pair_ligand", "pair_protein", "pair_fold"):
        if columns[name].dtype.kind not in "iu":
            raise DataError(f"{arrays}: {name} is no column of whole numbers", got=columns[name].dtype)
    if columns["pair_label"].dtype.kind != "f":
        raise DataError(f"{arrays}: pair_label is no column of numbers", got=columns["pair_label"].dtype)
    folds = columns["pair_fold"]
    if len(folds) and folds.max() > TEST_FOLD:
        raise DataError(f"{arrays}: folds out of range", got=folds.max(), allowed=f"0 to {TEST_FOLD}")
    document = _json(texts)
    return _Table(
        _texts(document, "ligands", "smiles", texts),
        _texts(document, "proteins", "sequence", texts),
        columns["pair_ligand"].astype(np.int64),
        columns["pair_protein"].astype(np.int64),
        columns["pair_label"].astype(np.float64),
        folds == TEST_FOLD,
    )


def _published(folder: Path, kd: bool) -> _Table:
    """DeepDTA's own folder; rows of the folds count the measured entries of the matrix, row by row."""
    smiles, sequences = (_dictionary(folder / name) for name in ("ligands_can.txt", "proteins.txt"))
    matrix = _matrix(folder, (len(smiles), len(sequences)))
    drug_of, protein_of = np.nonzero(~np.isnan(matrix))
    labels = matrix[drug_of, protein_of]
    if kd:
        if len(labels) and labels.min() <= 0:
            raise DataError(
                f"{folder}: dissociation constants out of range", got=labels.min(), allowed="above 0, in nM"
            )
        labels = 9 - np.log10(labels)
    train_file, test_file = (folder / "folds" / f"{part}_fold_setting1.txt" for part in ("train", "test"))
    folds = _json(train_file)
    test = _row_numbers(_json(test_file), len(labels), test_file)
    if not isinstance(folds, list):
        raise DataError(f"{train_file} is no list of folds", got=type(folds).__name__)
    train = np.concatenate([_row_numbers(fold, len(labels), train_file) for fold in folds] or [test[:0]])
    chosen = np.concatenate([train, test])
    if len(np.unique(chosen)) < len(chosen):
        raise DataError(f"{folder}: folds that overlap", allowed="every pair in one fold at most")
    is_test = np.arange(len(chosen)) >= len(train)
    return _Table(smiles, sequences, drug_of[chosen], protein_of[chosen], labels[chosen], is_test)


def _matrix(folder: Path, shape: tuple[int, int]) -> NDArray[np.float64]:
    path = next((folder / name for name in _MATRIX_NAMES if (folder / name).is_file()), None)
    if path is None:
        pickled = (folder / "Y").is_file()
        raise DataError(
            f"{folder}: there is no matrix of affinities"
            + (" but a pickle, and pickles can run code" if pickled else ""),
            got=folder / "Y" if pickled else None,
            allowed=" or ".join(_MATRIX_NAMES),
            remedy="write it as Y.npy where you trust its origin: numpy.save('Y.npy', numpy.asarray(Y, float))",
        )
    try:
        if path.suffix == ".npy":
            matrix = np.load(path, allow_pickle=False)
        else:
            matrix = np.loadtxt(path, delimiter="," if path.suffix == ".csv" else None, ndmin=2)
    except (OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}", got=str(error), allowed="plain numbers, a drug a row") from error
    if matrix.shape != shape or matrix.dtype.kind not in "iuf":
        raise DataError(
            f"{path} does not fit the drugs and proteins",
            got=f"{matrix.dtype} of shape {matrix.shape}",
            allowed=str(shape),
        )
    return matrix.astype(np.float64)


def _arrays(path: Path, names: tuple[str, ...]) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            missing = [name for name in names if name not in stored.files]
            if not missing:
                return {name: stored[name] for name in names}
    except (zipfile.BadZipFile, zlib.error, OSError, ValueError, EOFError) as error:
        raise DataError(f"cannot read {path}", got=str(error), allowed="an .npz file of plain arrays") from error
    raise DataError(f"{path}: arrays are missing", got=f"no {', '.join(missing)}", allowed=", ".join(names))


def _json(path: Path) -> Any:
    if not path.is_file():
        raise DataError("there is no such file", got=path, remedy="complete the folder")
    if path.stat().st_size > _MOST_JSON_BYTES:
        raise DataError(f"{path} is too large", got=path.stat().st_size, allowed=f"{_MOST_JSON_BYTES} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:  # UnicodeDecodeError and JSONDecodeError are ValueErrors
        raise DataError(f"cannot read {path}", got=str(error), allowed="JSON") from error


def _texts(document: Any, part: str, field: str, path: Path) -> list[str]:
    rows = document.get(part) if isinstance(document, dict) else None
    given = [row.get(field) if isinstance(row, dict) else None for row in rows] if isinstance(rows, list) else [None]
    texts = [text for text in given if isinstance(text, str)]
    if len(texts) < len(given):
        raise DataError(f"{path}: there is no list {part!r} of objects with a text {field!r}")
    return texts


def _dictionary(path: Path) -> list[str]:
    document = _json(path)
    if not isinstance(document, dict) or not all(isinstance(text, str) for text in document.values()):
        raise DataError(
            f"{path} is no dictionary of texts", got=type(document).__name__, allowed='{"NAME": "TEXT", ...}'
        )
    return list(document.values())


def _row_numbers(document: Any, count: int, path: Path) -> NDArray[np.int64]:
    whole = isinstance(document, list) and all(type(row) is int and 0 <= row < count for row in document)
    if not whole:
        raise DataError(f"{path}: these are no rows of the matrix", allowed=f"whole numbers from 0 to {count - 1}")
    return np.array(document, np.int64)
