"""Trains DeepDTA on DAVIS or KIBA by netpress' loop, with batches in which few proteins meet many drugs.

    NETPRESS_DATA=FOLDER python evidence/deepdta/train.py davis deepdta_davis.safetensors [--epochs 45] [--seed 0]

A pair costs 182 million multiply-adds, nearly all of them in the protein's branch, and a data set has few proteins (DAVIS: 442).
So each batch takes its 256 pairs from about 34 proteins, runs every protein once, without the padding behind it, and takes the
gradient of the last convolution only where the maximum lies: the same function of the same parameters, ten times faster. Batches
are therefore not uniformly random. The network is chosen by its error on pairs held out from the training folds; the test fold
only judges.
"""

from __future__ import annotations

import argparse
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress import zoo
from netpress.data import Split, open_data
from netpress.measure import environment, quality
from netpress.training import Trainer, TrainingPlan
from netpress.zoo import save_weights

HOLD_OUT, BATCH, DRUGS_EACH = 0.05, 256, 8
DRUG_FIELD, PROTEIN_FIELD = 3 * 7 + 1, 3 * 11 + 1  # tokens that one output of three valid convolutions sees


def encode(branch: nn.Module, tokens: Tensor) -> Tensor:
    """One branch of the network on one-hot tokens (B, L, T): (B, 96).

    Embedding and first convolution run as one convolution over the T kinds of tokens.
    """
    first = torch.einsum("oczk,tc->otzk", branch.conv1.weight, branch.embedding.weight)  # (32, T, 1, K)
    h = F.relu(F.conv2d(tokens.permute(0, 2, 1).unsqueeze(2), first, branch.conv1.bias), inplace=True)
    h = F.relu(branch.conv2(h), inplace=True)  # (B, 64, 1, L2)
    weight = branch.conv3.weight  # (96, 64, 1, K)
    with torch.no_grad():
        places = F.adaptive_max_pool2d(F.conv2d(h, weight), 1, return_indices=True)[1].flatten(1)  # (B, 96)
    flat = h.squeeze(2).transpose(1, 2)  # (B, L2, 64)
    batch, length, channels = flat.shape
    rows = (places.unsqueeze(2) + torch.arange(weight.shape[3])) + (torch.arange(batch) * length)[:, None, None]
    windows = flat.reshape(-1, channels).index_select(0, rows.flatten()).view(*rows.shape, channels)  # (B, 96, K, 64)
    products = windows.flatten(2) * weight.squeeze(2).transpose(1, 2).flatten(1)  # (B, 96, K * 64)
    return F.relu(products.sum(2) + branch.conv3.bias)


class Pairs:
    """All drugs and proteins of a data set, once each, and a network's answers on pairs of them."""

    def __init__(self, split: Split) -> None:
        base = split.images.base if hasattr(split.images, "base") else split.images
        drugs, proteins = torch.from_numpy(base.drugs).long(), torch.from_numpy(base.proteins).long()
        self.drug_lengths, self.protein_lengths = (drugs != 0).sum(1), (proteins != 0).sum(1)
        self.drugs, self.proteins = F.one_hot(drugs, 65).float(), F.one_hot(proteins, 26).float()

    def answers(self, network: nn.Module, pairs: Tensor) -> Tensor:
        """(N, 2) numbers of drug and protein to (N, 1)."""
        drugs, drug_of = torch.unique(pairs[:, 0], return_inverse=True)
        proteins, protein_of = torch.unique(pairs[:, 1], return_inverse=True)
        kept = min(self.drugs.shape[1], int(self.drug_lengths[drugs].max()) + DRUG_FIELD)
        encoded = encode(network.drug, self.drugs[drugs, :kept])
        return network.head(torch.cat((encoded[drug_of], self._encoded_proteins(network, proteins)[protein_of]), 1))

    def _encoded_proteins(self, network: nn.Module, which: Tensor, groups: int = 4) -> Tensor:
        """In groups of about one length, since padding behind the longest of a group tells nothing."""
        order = torch.argsort(self.protein_lengths[which])
        parts = []
        for group in torch.tensor_split(order, min(groups, len(order))):
            kept = min(self.proteins.shape[1], int(self.protein_lengths[which[group]].max()) + PROTEIN_FIELD)
            parts.append(encode(network.protein, self.proteins[which[group], :kept]))
        return torch.cat(parts)[torch.argsort(order)]


@dataclass(frozen=True)
class GroupedStream:
    """Batches of (drug, protein) numbers and labels, a protein's pairs in chunks of about ``DRUGS_EACH``."""

    pairs: Tensor
    labels: Tensor
    seed: int

    def __len__(self) -> int:
        return -(-len(self.pairs) // BATCH)

    def batches(self, epoch: int, start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
        rng = np.random.default_rng((self.seed, epoch))
        order = rng.permutation(len(self.pairs))
        order = order[np.argsort(self.pairs[order, 1].numpy(), kind="stable")]
        ends = np.flatnonzero(np.diff(self.pairs[order, 1].numpy())) + 1
        chunks = [c for g in np.split(order, ends) for c in np.array_split(g, max(1, round(len(g) / DRUGS_EACH)))]
        rows = torch.from_numpy(np.concatenate([chunks[k] for k in rng.permutation(len(chunks))]))
        for chosen in rows.split(BATCH)[start:]:
            yield self.pairs[chosen], self.labels[chosen]


@dataclass(frozen=True)
class Squared:
    """Mean squared error of the answers on pairs; the checkpoint knows it by the seed that the stream has, too."""

    seed: int

    def __call__(self, network: nn.Module, x: Tensor, y: Tensor) -> dict[str, Tensor]:
        output = PAIRS[0].answers(network, x)
        return {"loss": F.mse_loss(output[:, 0], y), "output": output}


PAIRS: list[Pairs] = []


def numbered(split: Split) -> tuple[Tensor, Tensor]:
    """(N, 2) numbers of drug and protein, and (N,) labels."""
    rows = getattr(split.images, "rows", np.arange(len(split.images)))
    base = getattr(split.images, "base", split.images)
    pairs = np.stack([base.drug_of[rows], base.protein_of[rows]], 1)
    return torch.from_numpy(pairs), torch.from_numpy(np.asarray(split.labels))


def main() -> None:
    """Trains, writes the weights, prints one JSON line for the ledger."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", choices=("davis", "kiba"))
    parser.add_argument("out", type=Path)
    parser.add_argument("--epochs", type=int, default=45)
    parser.add_argument("--lr", type=float, default=1e-3)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    began = time.monotonic()
    data = open_data(given.data, root=Path(os.environ["NETPRESS_DATA"]))
    fit, held = data.train.hold_out(HOLD_OUT, seed=0)
    PAIRS.append(Pairs(data.train))
    pairs, labels = numbered(fit)
    held_pairs, held_labels = numbered(held)
    network = zoo.build("deepdta", seed=given.seed)
    with torch.no_grad():
        network.head[-1].bias.fill_(float(labels.mean()))  # so that no epoch goes into the offset

    def validate(network: nn.Module) -> float:
        answers = torch.cat([PAIRS[0].answers(network, p)[:, 0] for p in held_pairs.split(1024)])
        return -float(F.mse_loss(answers, held_labels))

    plan = TrainingPlan(
        epochs=given.epochs, batch_size=BATCH, optimizer="adam", lr=given.lr, schedule="cosine", warm_up=0.02
    )
    trainer = Trainer(seed=given.seed, checkpoint=given.out.with_suffix(".checkpoint"))
    stream = GroupedStream(pairs, labels, given.seed)
    record = trainer.fit(network, stream, plan, Squared(given.seed), validate=validate, restore_best=True)
    save_weights(network.eval(), given.out)
    row = {
        "data": given.data,
        "seed": given.seed,
        "epochs": given.epochs,
        "lr": given.lr,
        "best_epoch": record.best_epoch,
        "held_out_mse": -max(record.validations),
        "test": quality(network, data.test, data.preprocess, task="regression").as_dict(),
        "minutes": (time.monotonic() - began) / 60,
        "environment": environment(),
    }
    print(json.dumps(row))


if __name__ == "__main__":
    main()
