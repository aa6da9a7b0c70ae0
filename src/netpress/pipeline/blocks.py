"""The blocks of a network: the stages between which one tensor flows, and its size changes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import pairwise

from netpress.graph import Cut, GraphNetwork, legal_cuts

MOST_BLOCKS = 4  # where the size of what flows never changes


@dataclass(frozen=True)
class Block:
    """A run of nodes that one tensor enters and one tensor leaves.

    Attributes:
        name: Of the first and the last module in it.
        modules: Dotted names of its modules.
        node: Number of the node whose value leaves it.
    """

    name: str
    modules: tuple[str, ...]
    node: int


def find_blocks(network: GraphNetwork) -> tuple[Block, ...]:
    """The stages of a network, in order of execution; at least one.

    A stage begins where one tensor alone flows, before what makes it half as large or smaller, channels not counted: at a pool of
    VGG, at the first block of a stage of ResNet. Where sizes never change (transformers) there are up to four blocks of about the
    same cost.
    """
    cuts = legal_cuts(network)
    starts: list[int] = []
    area = math.prod(network.input_shape[1:])
    since: list[Cut] = []  # cuts at this size, of the running stage
    for cut in cuts:
        if len(cut.shape) > 1 and 2 * math.prod(cut.shape[1:]) <= area:
            if since:  # the last boundary of outermost modules before the size changed
                starts.append(max(since, key=lambda c: (-c.name.count("."), c.at)).at)
            area, since = math.prod(cut.shape[1:]), []
        if cut.macs_before > 0:
            since.append(cut)
    if not starts and cuts:
        total = cuts[0].macs_before + cuts[0].macs_after
        for part in range(1, MOST_BLOCKS):
            place = min(cuts, key=lambda cut: (abs(cut.macs_before - total * part / MOST_BLOCKS), cut.at))
            starts.append(place.at)
    edges = [0, *sorted({at for at in starts if 0 < at < len(network.nodes)}), len(network.nodes)]
    blocks = []
    for begin, end in pairwise(edges):
        modules = tuple(dict.fromkeys(n.name for n in network.nodes[begin:end] if n.is_module))
        holding = [m for m in modules if any(True for _ in network.get_submodule(m).parameters())]
        if holding:
            name = holding[0] if len(holding) == 1 else f"{holding[0]} to {holding[-1]}"
            blocks.append(Block(name, modules, end - 1))
    return tuple(blocks)
