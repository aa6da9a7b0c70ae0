"""Tucker projection: one small matrix a mode, as found by AHOSVD (``netpress.maths.hosvd``)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from netpress.errors import WeightsError
from netpress.layers.reduction_layer import ReductionLayer
from netpress.maths.ranks import check_feature_shape, check_ranks, contraction_order


class TuckerProjection(ReductionLayer):
    """Reduces features mode by mode: ``x x_1 P_1 ... x_k P_k``, flattened.

    (N, d1, ..., dk) -> (N, r1 * ... * rk). Mode n is a bias-free ``nn.Linear`` whose weight is P_n, (r_n, d_n); the
    modes are taken in the order that needs the fewest multiply-accumulates. (256, 4, 4) -> (35, 3, 3) has
    256*35 + 4*3 + 4*3 = 8,984 parameters. Starts with random orthonormal rows; ``set_projections`` puts in fitted ones.

    Args:
        feature_shape: (C, H, W), or any (d1, ..., dk).
        ranks: One a mode, each in 1..d_n.
        trainable: False freezes the matrices; they still count as parameters.

    Raises:
        ConfigError: If a rank is out of range.
    """

    def __init__(
        self, feature_shape: Sequence[int] | int, ranks: Sequence[int] | int, *, trainable: bool = True
    ) -> None:
        super().__init__()
        self.feature_shape = check_feature_shape(feature_shape)
        self.ranks = check_ranks(self.feature_shape, ranks)
        self.out_features = torch.Size(self.ranks).numel()
        self.order = contraction_order(self.feature_shape, self.ranks)
        self.modes = _mode_linears(self.feature_shape, self.ranks)
        self.requires_grad_(trainable)

    def forward(self, x: Tensor) -> Tensor:
        """(N, d1, ..., dk) -> (N, out_features)."""
        return _apply_modes(x, self.modes, self.order).flatten(1)  # (N, r1, ..., rk) -> (N, r1 * ... * rk)

    def projections(self) -> list[Tensor]:
        """The matrices P_n, (r_n, d_n), detached."""
        return [mode.weight.detach() for mode in _linears(self.modes)]

    def set_projections(self, projections: Iterable[Tensor]) -> None:
        """Copies fitted matrices P_n, (r_n, d_n), one a mode, into the layer.

        Raises:
            WeightsError: If their number or a shape does not fit, or one is not finite.
        """
        _set_modes(self.modes, list(projections))

    def lift(self) -> TuckerLift:
        """A new module back to the feature shape, starting at P_n^T: the exact inverse on what P_n kept, as long as
        its rows are orthonormal."""
        back = TuckerLift(self.feature_shape, self.ranks)
        back.set_matrices([projection.T for projection in self.projections()])
        return back

    def extra_repr(self) -> str:
        return f"{self.feature_shape} -> {self.ranks}"


class TuckerLift(nn.Module):
    """The way back: (N, r1 * ... * rk) -> (N, d1, ..., dk), one bias-free ``nn.Linear`` (d_n, r_n) a mode.

    Starts with random orthonormal columns.

    Args:
        feature_shape: (d1, ..., dk), the shape to restore.
        ranks: One a mode.

    Raises:
        ConfigError: If a rank is out of range.
    """

    def __init__(self, feature_shape: Sequence[int] | int, ranks: Sequence[int] | int) -> None:
        super().__init__()
        self.feature_shape = check_feature_shape(feature_shape)
        self.ranks = check_ranks(self.feature_shape, ranks)
        self.order = contraction_order(self.feature_shape, self.ranks)[::-1]
        self.modes = _mode_linears(self.ranks, self.feature_shape)

    def forward(self, x: Tensor) -> Tensor:
        """(N, r1 * ... * rk) -> (N, d1, ..., dk)."""
        x = x.reshape(-1, *self.ranks)  # (N, r) -> (N, r1, ..., rk)
        return _apply_modes(x, self.modes, self.order)

    def set_matrices(self, matrices: Iterable[Tensor]) -> None:
        """Copies matrices (d_n, r_n), one a mode, into the layer.

        Raises:
            WeightsError: If their number or a shape does not fit, or one is not finite.
        """
        _set_modes(self.modes, list(matrices))

    def extra_repr(self) -> str:
        return f"{self.ranks} -> {self.feature_shape}"


def _mode_linears(inputs: Sequence[int], outputs: Sequence[int]) -> nn.ModuleList:
    # nn.Linear rather than bare parameters: quantization, pruning and coding then treat P_n like any other weight.
    modes = nn.ModuleList(nn.Linear(n, m, bias=False) for n, m in zip(inputs, outputs, strict=True))
    for mode in _linears(modes):
        nn.init.orthogonal_(mode.weight)
    return modes


def _linears(modes: nn.ModuleList) -> list[nn.Linear]:
    return [mode for mode in modes if isinstance(mode, nn.Linear)]


def _apply_modes(x: Tensor, modes: nn.ModuleList, order: Sequence[int]) -> Tensor:
    last = len(modes) - 1
    for index in order:
        if index == last:
            x = modes[index](x)  # (N, ..., d_k) -> (N, ..., r_k)
        else:
            x = modes[index](x.transpose(index + 1, -1)).transpose(
                index + 1, -1
            )  # (N, .., d_n, ..) -> (N, .., r_n, ..)
    return x


def _set_modes(modes: nn.ModuleList, matrices: list[Tensor]) -> None:
    linears = _linears(modes)
    wanted = [tuple(mode.weight.shape) for mode in linears]
    found = [tuple(matrix.shape) for matrix in matrices]
    if wanted != found:
        raise WeightsError("the matrices do not fit the layer", got=found, allowed=wanted)
    for number, matrix in enumerate(matrices, start=1):
        if not bool(torch.isfinite(matrix).all()):
            raise WeightsError(
                f"the matrix of mode {number} is not finite", remedy="check the features it was fitted to"
            )
    with torch.no_grad():
        for mode, matrix in zip(linears, matrices, strict=True):
            mode.weight.copy_(matrix)
