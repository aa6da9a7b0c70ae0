"""DeepDTA: the published network, in the form that is fast on a CPU."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from netpress import artifact, zoo
from netpress.data.affinity import DRUG_LENGTH, PROTEIN_LENGTH, PROTEIN_LETTERS, SMILES_CHARACTERS
from netpress.graph import GraphNetwork, count, trace
from netpress.measure import cost
from netpress.zoo.families import deepdta
from netpress.zoo.families.deepdta import DeepDTA, SequenceEncoder


def tokens(rows: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    drugs = torch.randint(0, 65, (rows, 85), generator=generator)
    proteins = torch.randint(0, 26, (rows, 1200), generator=generator)
    return torch.cat((drugs, proteins), 1)


@pytest.fixture(scope="module")
def network() -> DeepDTA:
    built = zoo.build("deepdta", seed=0)
    assert isinstance(built, DeepDTA)
    return built.eval()


@pytest.fixture(scope="module")
def traced(network: DeepDTA) -> GraphNetwork:
    return trace(network, tokens(2))


def published(encoder: SequenceEncoder, sequence: Tensor) -> Tensor:
    """The branch as it is published: one-dimensional convolutions, each with ReLU, then the maximum."""
    x = encoder.embedding(sequence).transpose(1, 2)
    for conv in (encoder.conv1, encoder.conv2, encoder.conv3):
        x = F.relu(F.conv1d(x, conv.weight.squeeze(2), conv.bias))
    return x.amax(2)


def test_equals_the_published_form(network: DeepDTA) -> None:
    x = tokens(3, seed=1)
    with torch.no_grad():
        features = torch.cat((published(network.drug, x[:, :85]), published(network.protein, x[:, 85:])), 1)
        linear = [module for module in network.head if isinstance(module, nn.Linear)]
        expected = features
        for layer in linear[:-1]:
            expected = F.relu(layer(expected))
        torch.testing.assert_close(network(x), linear[-1](expected), rtol=1e-4, atol=1e-6)
    assert features.shape == (3, 192)


def test_counts_by_hand(traced: GraphNetwork) -> None:
    found = count(traced)
    drug = 78 * 128 * 32 * 8 + 71 * 32 * 64 * 8 + 64 * 64 * 96 * 8
    protein = 1189 * 128 * 32 * 12 + 1178 * 32 * 64 * 12 + 1167 * 64 * 96 * 12
    head = 192 * 1024 + 1024 * 1024 + 1024 * 512 + 512
    assert found.macs == drug + protein + head
    assert found.params == 2_030_337
    assert traced.input_dtype == torch.int64
    assert (traced.input_shape, traced.output_shape) == ((1285,), (1,))


def test_the_sequences_are_those_of_the_data() -> None:
    assert (deepdta.DRUG_LENGTH, deepdta.PROTEIN_LENGTH) == (DRUG_LENGTH, PROTEIN_LENGTH)
    assert (len(SMILES_CHARACTERS), len(PROTEIN_LETTERS)) == (deepdta.DRUG_TOKENS, deepdta.PROTEIN_TOKENS)


def test_a_file_gives_the_same_answers(traced: GraphNetwork, tmp_path: Path) -> None:
    path, x = tmp_path / "n.netpress", tokens(5, seed=2)
    artifact.save(path, traced, input_shape=(1285,), preprocess={"indices": True}, task="regression", codec="dense")
    read = artifact.load(path)
    with torch.no_grad():
        torch.testing.assert_close(read(x), traced(x), rtol=0, atol=0)


def test_every_parameter_learns_and_dropout_is_in_use(network: DeepDTA) -> None:
    twin = zoo.build("deepdta", seed=0)
    x = tokens(4)
    twin(x).square().sum().backward()
    assert [name for name, p in twin.named_parameters() if p.grad is None or not p.grad.any()] == []
    assert sum(isinstance(module, nn.Dropout) and module.p == 0.1 for module in network.modules()) == 2


def test_latency_is_timed_on_whole_numbers(traced: GraphNetwork) -> None:
    timed = cost(traced, latency=True, threads=1).latency_ms
    assert timed is not None
    assert timed["median"] > 0
