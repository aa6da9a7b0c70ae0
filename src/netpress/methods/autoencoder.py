"""Convolutional autoencoder: an encoder that could rebuild the features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from netpress.errors import ConfigError
from netpress.layers import ConvEncoder, ReductionLayer
from netpress.pipeline.features import Features
from netpress.pipeline.job import Job
from netpress.pipeline.ranks import Ranks, channel_path, default_channel_ranks
from netpress.pipeline.reduction import ModeReduction


@dataclass(frozen=True, kw_only=True)
class Autoencoder(ModeReduction):
    """A convolutional encoder (C, H, W) → (r_C, r_H, r_W), pre-trained with a decoder by feature MSE; the decoder is dropped.

    Idea: a non-linear projection that first learns to keep the features, without labels, and then what the answer needs.
    Helps: where features lie on a curved set, and where labels are few. Fails: at one-pixel maps, where it is only a linear layer.
    Source: named in Meneghetti et al. 2026; this form is ours.

    Attributes:
        ranks: (r_C, r_H, r_W); None takes the most channels that the budget allows, else C/4.
        width: Channels between the encoder's two convolutions; None: r_C.
        pretrain_epochs: Passes over the stored features with the decoder.
    """

    width: int | None = None
    pretrain_epochs: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pretrain_epochs < 0 or (self.width is not None and self.width < 1):
            raise ConfigError(
                "width or pretrain_epochs is out of range",
                got=f"{self.width}, {self.pretrain_epochs}",
                allowed="width >= 1 or null, pretrain_epochs >= 0",
            )

    @property
    def learned(self) -> bool:
        return True

    def build(self, shape: Sequence[int], ranks: Ranks) -> ConvEncoder:
        return ConvEncoder(shape, ranks, width=self.width)

    def fit_layer(self, features: Features, job: Job) -> tuple[ReductionLayer, Ranks]:
        shape = features.map_shape("autoencoder")
        ranks = features.choose_ranks(channel_path(shape), default_channel_ranks(shape))
        encoder = self.build(shape, ranks).to(job.device)
        features.fit_reconstruction(nn.Sequential(encoder, encoder.decoder().to(job.device)), self.pretrain_epochs)
        return encoder, ranks
