"""What a budget will lead to, before anything is trained: widths, counts, bytes and the latency of the sliced, untrained network."""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from netpress import artifact
from netpress.data import Data, Preprocess
from netpress.errors import ConfigError
from netpress.graph import trace
from netpress.measure import Cost, cost, latency
from netpress.pipeline.budget import Budget
from netpress.pipeline.method import Method, method_name
from netpress.pipeline.narrowing import ChannelMethod, without_gain
from netpress.pipeline.preparing import prepared
from netpress.pipeline.recipe import Recipe
from netpress.progress import Progress


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What will be left.

    Attributes:
        widths: A row a group of tied channels: ``group``, ``modules``, ``channels``, ``kept``.
        before, after: Costs, with latencies from one interleaved run; the network is sliced, not trained.
        speedup: The original's time over the smaller network's, median over rounds.
        warnings: What should be known before money is spent.
    """

    recipe: Recipe
    budget: Budget
    widths: list[dict[str, Any]]
    before: Cost
    after: Cost
    speedup: float
    warnings: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """The JSON document of ``netpress compress --plan``."""
        return {
            "recipe": self.recipe.as_dict(),
            "budget": str(self.budget) or None,
            "widths": self.widths,
            "before": {"cost": self.before.as_dict()},
            "after": {"cost": self.after.as_dict()},
            "speedup": self.speedup,
            "warnings": list(self.warnings),
        }


def plan(
    network: nn.Module,
    recipe: str | Path | Mapping[str, Any] | Method | Recipe,
    data: str | Data,
    budget: str | Budget | None = None,
    *,
    preprocess: Preprocess | None = None,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
) -> Plan:
    """Finds the widths that a budget leads to, with the weights as they are, slices, counts and times; nothing is trained.

    A method that trains before it cuts (``slimming``, ``blockwise`` with ``search``), or that tries several cuts (``score=auto``), may
    choose other channels in the end; the budget holds all the same.

    Raises:
        ConfigError: The recipe's first method does not take channels away.
        BudgetError: The budget cannot be met; the text says the smallest reachable.
    """
    with prepared(
        network,
        recipe,
        data,
        budget,
        at=None,
        preprocess=preprocess,
        seed=seed,
        device=device,
        progress=progress,
        work_dir=None,
        out=None,
    ) as ready:
        student = trace(copy.deepcopy(ready.teacher).to("cpu"), ready.example)
        widths: list[dict[str, Any]] = []
        warnings = []
        for method in ready.recipe.methods:
            if not isinstance(method, ChannelMethod):
                if widths:
                    warnings.append(f"what {method_name(method)} does after the cut is not planned: it depends on data")
                    break
                raise ConfigError(
                    f"{method_name(method)} does not take channels away, so there are no widths to plan",
                    got=ready.recipe.name,
                    allowed="a recipe that begins with width, magnitude, slimming or blockwise",
                )
            narrowed = method.narrowed(student.to(ready.job.device), ready.job)
            widths += narrowed.widths()
            student = trace(narrowed.network.to("cpu"), ready.example)
        teacher = ready.teacher.to("cpu").eval()
        timed = latency(
            {"before": teacher, "after": student.eval()}, teacher.input_shape, input_dtype=teacher.input_dtype
        )
        ratio = timed["after"].ratio(timed["before"])
        if slow := without_gain(ratio, ready.recipe.methods):
            warnings.append(f"{slow}; batch of one, on this machine")
        return Plan(
            recipe=ready.recipe,
            budget=ready.budget,
            widths=widths,
            before=_with(ready.before, timed["before"].as_dict(), ready.before.size_bytes),
            after=_with(cost(student), timed["after"].as_dict(), artifact.size(student)),
            speedup=1 / ratio,
            warnings=tuple(warnings),
        )


def _with(counted: Cost, timed: dict[str, Any], size_bytes: int | None) -> Cost:
    return dataclasses.replace(counted, latency_ms=timed, size_bytes=size_bytes)
