"""DeepDTA, drug-target affinity from two sequences: Öztürk, Özgür, Ozkirimli, "DeepDTA: deep drug-target binding affinity
prediction", Bioinformatics 34(17), 2018.

Kernel lengths are what the published search over 4, 6, 8 (drugs) and 4, 8, 12 (proteins) may choose: 8 and 12, those of
the networks that Marinó et al. compress (Neurocomputing 520, 2023).
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from netpress.zoo.entry import Entry, PreprocessDict

PAPER = "doi:10.1093/bioinformatics/bty593"

DRUG_LENGTH, DRUG_TOKENS, DRUG_KERNEL = 85, 64, 8
PROTEIN_LENGTH, PROTEIN_TOKENS, PROTEIN_KERNEL = 1200, 25, 12
EMBEDDING = 128
FILTERS = (32, 64, 96)


class SequenceEncoder(nn.Module):
    """Tokens to features: an embedding, three convolutions without padding, each with ReLU, and the maximum over places.

    The one-dimensional convolutions are stored as two-dimensional ones of height 1: the same numbers, and on a CPU, in
    the channels-last order in which embeddings come, 1.5 times as fast. The last ReLU stands behind the maximum, with
    which it commutes: so it looks at 96 numbers instead of 96 a place.

    Args:
        tokens: How many there are besides 0, which fills up.
        kernel: Length of all three convolutions.
    """

    def __init__(self, tokens: int, kernel: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(tokens + 1, EMBEDDING)
        widths = (EMBEDDING, *FILTERS)
        self.conv1, self.conv2, self.conv3 = (nn.Conv2d(n, m, (1, kernel)) for n, m in pairwise(widths))
        self.relu1, self.relu2, self.relu3 = nn.ReLU(), nn.ReLU(), nn.ReLU()
        self.pool = nn.AdaptiveMaxPool2d(1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embedding(x)  # (N, L) -> (N, L, 128)
        x = x.permute(0, 2, 1).unsqueeze(2)  # (N, 128, 1, L), channels last in memory
        x = self.relu1(self.conv1(x))  # (N, 32, 1, L - (K - 1))
        x = self.relu2(self.conv2(x))  # (N, 64, 1, L - 2 (K - 1))
        x = self.relu3(self.pool(self.conv3(x)))  # (N, 96, 1, 1)
        return x.flatten(1)  # (N, 96)


class DeepDTA(nn.Module):
    """Affinity (N, outputs) of (N, 1285) tokens: 85 of the drug, then 1200 of the protein.

    Initialised as the published Keras code is: Glorot's uniform weights, zero biases, small embeddings.

    Args:
        outputs: Width of the last layer; 1 for one affinity.
    """

    def __init__(self, outputs: int = 1) -> None:
        super().__init__()
        self.drug = SequenceEncoder(DRUG_TOKENS, DRUG_KERNEL)
        self.protein = SequenceEncoder(PROTEIN_TOKENS, PROTEIN_KERNEL)
        last = nn.Linear(512, outputs)
        self.head = nn.Sequential(
            nn.Linear(2 * FILTERS[-1], 1024),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(1024, 1024),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(1024, 512),
            nn.ReLU(),
            last,
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.uniform_(module.weight, -0.05, 0.05)
        nn.init.normal_(last.weight, std=0.05)

    def forward(self, x: Tensor) -> Tensor:
        drug = self.drug(x[:, :DRUG_LENGTH])  # (N, 96)
        protein = self.protein(x[:, DRUG_LENGTH:])  # (N, 96)
        return self.head(torch.cat((drug, protein), 1))


ENTRIES = (
    Entry(
        name="deepdta",
        build=DeepDTA,
        input_shape=(DRUG_LENGTH + PROTEIN_LENGTH,),
        classes=1,
        preprocess=PreprocessDict(scale=1.0, mean=[], std=[], indices=True),
        paper=PAPER,
    ),
)
