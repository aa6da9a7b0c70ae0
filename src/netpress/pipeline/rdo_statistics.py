"""What errors of a network's tensors cost, and the inputs of its layers: from images without labels.

The cost of changing a network is taken as the KL divergence of its answers from what they were (for a regression: half the squared
change), to second order ½ δᵀFδ with the Fisher information F = E[g gᵀ], g being gradients for labels that are drawn from its
softened answers. On images that it was trained on, a network is too sure of itself to say what errors would cost elsewhere: answers
are softened until all labels are equally likely, and what counts is the squared change of its logits.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from netpress.graph import GraphNetwork
from netpress.maths.gram import gram
from netpress.pipeline.job import Job
from netpress.pipeline.layer_columns import columns_at, place_stride

#: On LeNet-5, without retraining: 18.3 kB at 9,890 right answers; 18.4 kB at 9,880 with a temperature of 4 (evidence/values).
TEMPERATURE = float("inf")
BATCH = 16  # images whose gradients are summed before they are squared


def calibration(job: Job, samples: int) -> Tensor:
    """Preprocessed images of the fit split, chosen by the job's seed, without augmentation. (samples, ...)"""
    rows = np.sort(np.random.default_rng(job.seed).permutation(len(job.fit))[:samples])
    parts = np.array_split(rows, -(-len(rows) // 256))
    return torch.cat([job.preprocess(job.fit.images[part], job.device) for part in parts])


def sensitivities(
    network: GraphNetwork, images: Tensor, *, task: str, seed: int, temperature: float = TEMPERATURE
) -> dict[str, Tensor]:
    """Half the diagonal of F by parameter name, in nats: (shape of the parameter), float32.

    Labels that the network draws (at ``temperature``) have gradients of mean zero, independent from image to image: the square
    of their sum over a batch is, on average, the sum of their squares. The network, in eval mode, is not changed.
    """
    parameters = {name: p for name, p in network.named_parameters() if p.is_floating_point()}
    flags = {p: p.requires_grad for p in parameters.values()}
    sums = {name: torch.zeros_like(p, memory_format=torch.contiguous_format) for name, p in parameters.items()}
    generator = torch.Generator().manual_seed(seed)
    try:
        for p in flags:
            p.requires_grad_(True)
        for x in images.split(BATCH):
            with torch.enable_grad():
                output = network(x)
            direction = drawn_direction(output.detach(), task, temperature, generator)
            gradients = torch.autograd.grad(output, list(parameters.values()), direction, allow_unused=True)
            for total, gradient in zip(sums.values(), gradients, strict=True):
                if gradient is not None:
                    total += gradient.square()
    finally:
        for p, flag in flags.items():
            p.requires_grad_(flag)
    return {name: total.detach() / (2 * len(images)) for name, total in sums.items()}


def drawn_direction(output: Tensor, task: str, temperature: float, generator: torch.Generator) -> Tensor:
    """The gradient at the output of the loss of labels that the network draws itself. (N, outputs)"""
    if task != "classification":
        return torch.randn(output.shape, generator=generator).to(output)
    chances = F.softmax(output.double().cpu() / temperature, dim=1)
    drawn = torch.multinomial(chances, 1, generator=generator)[:, 0]
    return (chances - F.one_hot(drawn, chances.shape[1])).to(output)


def grams(module: nn.Module, first: Tensor, second: Tensor, batch_size: int = 64) -> tuple[Tensor, Tensor]:
    """(Σ x yᵀ, Σ y yᵀ) over the columns x of one input and y of another, for a sample: each (groups, columns, columns).

    Of large feature maps every n-th place is taken, another one in each batch: the places of an image say much the same.
    """
    cross: Tensor | None = None
    own: Tensor | None = None
    stride = place_stride(module, first)
    for index, start in enumerate(range(0, len(first), batch_size)):
        some = slice(start, start + batch_size)
        x, y = (columns_at(module, values[some], index % stride, stride) for values in (first, second))
        cross = x @ y.transpose(1, 2) if cross is None else cross.baddbmm_(x, y.transpose(1, 2))
        own = gram(y) if own is None else own.add_(gram(y))
    if cross is None or own is None:
        raise ValueError("no inputs")
    return cross * (stride / len(first)), own * (stride / len(first))
