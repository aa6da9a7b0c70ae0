"""What distillations of answers and of features have in common: two runs of one program, and where they are compared."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from netpress.errors import TrainingError
from netpress.graph import GraphNetwork
from netpress.measure.layout import to_channels_last
from netpress.training.objectives import Distillation, Targets, distil_answers, frozen, refuse_shared


class FeatureDistillation(ABC):
    """Distillation of a teacher's answers, and ``weight`` · the mean of `error` over some of the values on the way to them.

    Works on a private copy of the teacher, in eval mode; labels are not looked at when ``settings.alpha`` is 1, or without settings.

    Args:
        teacher: The original; left as it is.
        nodes: Numbers of the nodes that make the values to compare, in both programs; a student whose program has another length is
            refused.
        settings: Of the distillation of the answers; None: their squared error, for outputs of any meaning.
        weight: Of the features' part beside it.

    Raises:
        TrainingError: When called with a network that shares tensors with the teacher, or that has another program.
    """

    def __init__(
        self, teacher: GraphNetwork, nodes: Iterable[int], settings: Distillation | None, *, weight: float = 1.0
    ) -> None:
        self.settings = settings
        self.weight = weight
        self.nodes = frozenset(nodes)
        self._given = teacher
        self._copy: Any = frozen(teacher, keep=self.nodes)
        self._layout: torch.memory_format = torch.contiguous_format
        self._ready_for: int | None = None

    @abstractmethod
    def error(self, node: int, made: Tensor, wanted: Tensor) -> Tensor:
        """What the student's value of a node misses of the teacher's, as a share of what there is to miss: 0-d."""

    def __call__(self, network: nn.Module, x: Tensor, y: Targets) -> dict[str, Tensor]:
        output, answer, errors = self._run(network, x)
        loss = distil_answers(output, answer, y, self.settings)
        if errors:
            loss = loss + self.weight * torch.stack(list(errors.values())).mean()
        return {"loss": loss, "output": output}

    @torch.no_grad()
    def errors(self, network: nn.Module, x: Tensor) -> dict[int, float]:
        """`error` of a batch (N, ...) by node, of a network in whatever mode it is; nothing is trained and no label is asked for."""
        return {node: float(error) for node, error in self._run(network, x)[2].items()}

    def _run(self, network: nn.Module, x: Tensor) -> tuple[Tensor, Tensor, dict[int, Tensor]]:
        """What the student answers and what the teacher does, and the errors by node."""
        student = self._checked(network, x)
        wanted: dict[int, Tensor] = {}
        made: dict[int, Tensor] = {}

        def of_teacher(node: int, value: Any) -> None:
            if node in self.nodes:
                wanted[node] = value

        def of_student(node: int, value: Any) -> None:
            if node in self.nodes:
                made[node] = value

        with torch.no_grad():
            answer = self._copy.run(x.contiguous(memory_format=self._layout), of_teacher)
        output = student.run(x, of_student)
        return output, answer, {node: self.error(node, made[node], wanted[node]) for node in sorted(self.nodes)}

    def _checked(self, network: nn.Module, x: Tensor) -> GraphNetwork:
        if not isinstance(network, GraphNetwork) or len(network.nodes) != len(self._given.nodes):
            raise TrainingError(
                "features can only be compared between programs of one length",
                got=type(network).__name__ if not isinstance(network, GraphNetwork) else f"{len(network.nodes)} nodes",
                allowed=f"a traced network of {len(self._given.nodes)} nodes",
                remedy="distil the answers alone",
            )
        if self._ready_for != id(network):
            refuse_shared(network, self._given)
            last = to_channels_last(self._copy.to(x.device), x)
            self._layout = torch.channels_last if last else torch.contiguous_format
            self._ready_for = id(network)
        return network
