"""Subspace: a narrower student of the original's latent spaces, learned without labels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from netpress.errors import ConfigError
from netpress.graph import GraphNetwork
from netpress.pipeline.job import Job
from netpress.pipeline.narrowing import ChannelMethod
from netpress.pipeline.spectra import explained, read_values
from netpress.pipeline.widths import Scores
from netpress.structure import Channels
from netpress.training import Distill, DistillSubspaces, MatchOutput, Objective

BATCH = 128  # images at a time, when spectra are taken
JUDGED = 256  # held-out images, when decoders are


@dataclass(frozen=True, kw_only=True)
class Subspace(ChannelMethod):
    """Narrows each layer to the dimensions that its features really have, and learns the original's features and answers.

    Idea: of the channels that a layer reads, many are nearly sums of others. Those that explain the rest best stay (greedy column
    selection), the layers behind learn by least squares to do without the others, and training keeps the original's features
    reconstructible. Loss: distillation + match · mean over layers of min over D of |T - D S|² / |T|², with the original's centred
    features T, the student's S, and the decoder D solved anew for each batch: it costs no parameters and is never stored.
    Helps: where there are images but no labels; with ``lasso`` behind it.
    Fails: where features fill their space (see ``netpress profile --spectrum``): then widths are as good as any others.
    Source: inspired by Oyedotun, Aouada, Ottersten, Applied Intelligence 51 (2021) 834; the terms are ours.

    Attributes:
        energy: Share of each layer's energy that its principal directions must hold: as many channels stay as there are of these.
            None leaves widths to the budget alone; with both, what the budget asks for beyond goes, too.
        by_cost: Divides energy by cost, in the budget's metric, to this power, 0 to 1: a channel that saves more goes earlier.
        match: Weight of the features' part of the loss; 0 distils the answers alone.
        samples: Training images from which spectra are taken.
    """

    energy: float | None = None
    by_cost: float = 0.0
    match: float = 1.0
    samples: int = 4096

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.by_cost <= 1:
            raise ConfigError("by_cost is out of range", got=self.by_cost, allowed="0 to 1")
        if self.energy is not None and not 0 < self.energy <= 1:
            raise ConfigError("energy is out of range", got=self.energy, allowed="above 0, at most 1, or None")
        if not 0 <= self.match < float("inf"):
            raise ConfigError("match is out of range", got=self.match, allowed="0 or more")
        if self.samples < 2:
            raise ConfigError("samples is out of range", got=self.samples, allowed="2 or more")

    @property
    def cost_power(self) -> float:
        return self.by_cost

    @property
    def decides(self) -> bool:
        return self.energy is not None

    def scores(self, channels: Channels, job: Job) -> Scores:
        channels.net.to(job.device)
        stream = job.stream(batch_size=BATCH, shuffle=self.samples < len(job.fit))
        return explained(channels, stream, samples=self.samples, energy=self.energy, progress=job.progress)

    def apply(self, network: GraphNetwork, job: Job) -> nn.Module:
        narrow = super().apply(network, job)
        if isinstance(narrow, GraphNetwork) and len(narrow.nodes) == len(job.teacher.nodes):
            _say_unexplained(narrow, job)
        return narrow

    def objective(self, network: GraphNetwork, job: Job) -> Objective | None:
        plain = job.objective
        if not self.match or len(network.nodes) != len(job.teacher.nodes):
            return None
        if isinstance(plain, Distill):
            return DistillSubspaces(job.teacher, read_values(job.teacher), plain.settings, weight=self.match)
        if isinstance(plain, MatchOutput):
            return DistillSubspaces(job.teacher, read_values(job.teacher), None, weight=self.match)
        return None


def _say_unexplained(network: GraphNetwork, job: Job) -> None:
    """How much of the original's features, where layers read them, no linear decoder finds in the student's."""
    axes = read_values(job.teacher)
    if not axes:
        return
    network.to(job.device).eval()
    x, _ = next(iter(job.stream(batch_size=JUDGED, split=job.held_out).batches(0)))
    errors = DistillSubspaces(job.teacher, axes, None).errors(network, x)
    worst = max(errors, key=lambda node: errors[node])
    reader = next(node.name for node in job.teacher.nodes if node.is_module and worst + 1 in node.inputs)
    job.progress.say(
        f"of the energy of the original's features on {len(x)} held-out images, linear decoders of the student's miss "
        f"{sum(errors.values()) / len(errors):.4f} (mean of {len(errors)} layers; most: {errors[worst]:.4f} before {reader})"
    )
