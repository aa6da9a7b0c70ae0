"""The check shared by layers that work on feature maps only."""

from __future__ import annotations

from collections.abc import Sequence

from netpress.errors import ConfigError
from netpress.maths.ranks import check_feature_shape, check_ranks


def check_feature_maps(
    feature_shape: Sequence[int] | int, ranks: Sequence[int] | int, layer: str
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """(C, H, W) and (r_C, r_H, r_W), checked.

    Raises:
        ConfigError: If the features are not maps of three sizes, or a rank is out of range.
    """
    shape = check_feature_shape(feature_shape)
    if len(shape) != 3:
        raise ConfigError(
            f"{layer} works on feature maps",
            got=f"features of shape {shape}",
            allowed="(C, H, W)",
            remedy="cut where the features are maps, or take a Tucker or linear projection",
        )
    chosen = check_ranks(shape, ranks)
    return (shape[0], shape[1], shape[2]), (chosen[0], chosen[1], chosen[2])


def check_width(what: str, width: int | None, default: int) -> int:
    """An optional hidden width: ``default`` for None.

    Raises:
        ConfigError: If it is below 1.
    """
    if width is None:
        return default
    if width < 1:
        raise ConfigError(f"{what} is out of range", got=width, allowed="1 or more, or None for the default")
    return width
