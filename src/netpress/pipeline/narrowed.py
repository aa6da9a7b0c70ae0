"""A network with fewer channels, beside the one that it came from."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from netpress.graph import GraphNetwork
from netpress.structure import Channels, Keep


@dataclass(frozen=True)
class Narrowed:
    """A network with fewer channels, and what it came from.

    Attributes:
        network: Sliced; not trained, statistics not re-estimated.
        channels: Of the network before.
        keep: What was kept of each group.
    """

    network: GraphNetwork
    channels: Channels
    keep: Keep

    @property
    def alive(self) -> NDArray[np.bool_]:
        """For every atom of ``channels`` whether it was kept."""
        return self.channels.alive(self.keep)

    def widths(self) -> list[dict[str, Any]]:
        """A row a group: name, modules, channels before and after."""
        return [
            {
                "group": name,
                "modules": list(group.modules),
                "channels": group.size,
                "kept": int(np.count_nonzero(self.keep[name])),
            }
            for name, group in self.channels.groups.items()
        ]
