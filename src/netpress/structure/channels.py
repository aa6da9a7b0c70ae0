"""The channels of a network: which can be removed, and which only together."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from netpress.errors import ConfigError, UnknownNameError
from netpress.graph import GraphNetwork
from netpress.program.operators import BUFFER
from netpress.structure.atoms import Labels
from netpress.structure.flow import Flow, Slot
from netpress.structure.follow import OUTPUT, flow_of
from netpress.structure.labels import varied
from netpress.structure.rules import NOT_FOLLOWED

Keep = Mapping[str, NDArray[np.bool_]]
ALL_TIED = "all of its channels are tied to one another"
NO_TWO_ALIKE = "no two of its channels lie in the same places, so that each is the last of its group"


@dataclass(frozen=True)
class Place:
    """Where the channels of a group lie in one axis of one tensor.

    Attributes:
        tensor: Dotted name of the parameter or buffer.
        axis: The axis.
        consumes: Whether the axis reads the channels (inputs of a convolution), not makes them (its filters, biases, norms).
        rows: For each place that is the group's, its number along the axis. (channels * each,)
        channel: For each of them the channel of the group that it belongs to. (channels * each,)
    """

    tensor: str
    axis: int
    consumes: bool
    rows: Labels
    channel: Labels


@dataclass(frozen=True)
class ChannelGroup:
    """Channels that lie in the same axes of the same tensors; each can be removed by itself, from all of them at once.

    Attributes:
        name: The module that makes them first, with a number behind it where that module has several groups.
        size: How many there are. At least one is always kept.
        places: The axes in which they lie, in order of execution.
    """

    name: str
    size: int
    places: tuple[Place, ...] = field(repr=False)

    @property
    def modules(self) -> tuple[str, ...]:
        """Dotted names of the modules whose tensors hold them, each once."""
        return tuple(dict.fromkeys(place.tensor.rpartition(".")[0] for place in self.places))


class Channels:
    """What can be cut out of a network.

    Two channels are *tied* when one cannot be removed without the other: what a residual sum adds, what a depthwise convolution
    maps to itself, the rows of one attention head. What is left of a tie is one channel here. `slice_network` and
    `mask_network` take out what `keep` says.

    Args:
        net: A traced network; not changed.
        whole: Dotted names of modules, or beginnings of them, whose channels stay.

    Attributes:
        net: The network.
        groups: By name, in order of execution.
        kept_whole: Why channels that exist cannot be removed: the reason by the name of the module that makes them (of the tensor
            itself where it lies in no module).

    Raises:
        UnknownNameError: A name in ``whole`` that no module has.
    """

    def __init__(self, net: GraphNetwork, whole: Iterable[str] = ()) -> None:
        self.net = net
        self.flow = flow_of(net)
        self._keep_modules(tuple(whole))
        _settle(self.flow)
        self.roots = self.flow.atoms.roots()
        self.slots = _each_once(self.flow.slots)
        frozen = self.flow.atoms.frozen()
        self.groups, self._group_of, self._channel_of = self._grouped(frozen)
        self.kept_whole = self._reasons(frozen)

    def everything(self) -> dict[str, NDArray[np.bool_]]:
        """A ``keep`` that removes nothing."""
        return {name: np.ones(group.size, bool) for name, group in self.groups.items()}

    def alive(self, keep: Keep) -> NDArray[np.bool_]:
        """For every atom whether it stays.

        Args:
            keep: For a group's name which of its channels stay; groups that are missing stay whole.

        Raises:
            UnknownNameError: No group has the name.
            ConfigError: An array of the wrong size or type, or one that keeps nothing.
        """
        stays = np.ones(len(self.roots), bool)
        for name, kept in keep.items():
            if name not in self.groups:
                raise UnknownNameError("channel group", name, self.groups)
            kept = np.asarray(kept)
            if kept.dtype != np.bool_ or kept.shape != (self.groups[name].size,) or not kept.any():
                raise ConfigError(
                    f"what is kept of {name!r} is no choice of its channels",
                    got=f"{kept.dtype} {kept.shape}, {int(np.count_nonzero(kept))} kept",
                    allowed=f"{self.groups[name].size} true or false, at least one of them true",
                )
            members = np.flatnonzero(self._group_of == list(self.groups).index(name))
            stays[members] = kept[self._channel_of[members]]
        return stays[self.roots]

    def tally(self, atoms: Labels) -> tuple[NDArray[np.int64], int]:
        """How many places of ``atoms`` each channel of each group has, and how many belong to no group: (groups,), fixed."""
        group = self._group_of[self.roots[atoms]].reshape(-1)
        sizes = np.array([g.size for g in self.groups.values()], np.int64)
        counts = np.bincount(group[group >= 0], minlength=len(sizes)).astype(np.int64)
        return counts // np.maximum(sizes, 1), int((group < 0).sum())

    def _reasons(self, frozen: Mapping[int, str]) -> dict[str, str]:
        """`kept_whole`, without axes that are no channels: the tokens of a table of positions, the places of a kernel."""
        read = {node.name for node in self.net.nodes if node.is_tensor}
        # tables that nothing trains make no channels
        buffers = {node.name for node in self.net.nodes if node.op == BUFFER}
        holders = np.zeros(len(self.roots), np.int64)
        for slot in self.slots:
            holders[np.unique(self.roots[slot.atoms])] += 1
        reasons: dict[str, str] = {}
        for slot in self.slots:
            roots = self.roots[slot.atoms]
            stays = roots[self._group_of[roots] < 0] if len(roots) > 1 else roots[:0]
            if slot.consumes or slot.tensor in buffers or not len(stays):
                continue
            otherwise = ALL_TIED if (roots == roots[0]).all() else NO_TWO_ALIKE
            reason = next((frozen[root] for root in stays.tolist() if root in frozen), otherwise)
            alone = slot.tensor in read and int(holders[roots].max()) == 1
            if not alone or reason == OUTPUT or reason.endswith(NOT_FOLLOWED):
                reasons.setdefault(_owner(slot.tensor), reason)
        return reasons

    def _keep_modules(self, names: tuple[str, ...]) -> None:
        made = [slot for slot in self.flow.slots if not slot.consumes]
        modules = {name for name, _ in self.net.named_modules()} - {""}
        for name in names:
            if name not in modules:
                raise UnknownNameError("module", name, modules)
            for slot in made:
                if slot.tensor.startswith(name + "."):
                    self.flow.atoms.freeze(slot.atoms, "asked to be kept whole")

    def _sign(self, signature: NDArray[np.uint64], atoms: Labels, rng: np.random.Generator) -> None:
        """Marks all channels that lie in ``atoms``, by a number of 128 bits that no other place has."""
        roots, counts = np.unique(self.roots[atoms], return_counts=True)
        signature[roots] += rng.integers(1, 2**63, (1, 2), np.uint64) * counts[:, None].astype(np.uint64)

    def _grouped(self, frozen: Mapping[int, str]) -> tuple[dict[str, ChannelGroup], Labels, Labels]:
        """Groups by name, and for each root the number of its group (-1: none) and its number in the group."""
        signature = np.zeros((len(self.roots), 2), np.uint64)
        first = np.full(len(self.roots), len(self.slots), np.int64)
        rng = np.random.default_rng(0)
        for number, slot in enumerate(self.slots):
            self._sign(signature, slot.atoms, rng)
            first[self.roots[slot.atoms]] = np.minimum(first[self.roots[slot.atoms]], number)
        # A value that holds some of a group's channels and not others makes two groups of it, or it could be left empty.
        signed: set[tuple[tuple[int, ...], bytes]] = set()
        for arrays in self.flow.arrays:
            for labels in itertools.chain(*arrays) if arrays and isinstance(arrays[0], list) else arrays:
                known = (labels.shape, labels.tobytes())
                if known not in signed:
                    signed.add(known)
                    self._sign(signature, labels, rng)
        free = np.flatnonzero(self.roots == np.arange(len(self.roots)))
        free = free[(first[free] < len(self.slots)) & ~np.isin(free, np.fromiter(frozen, np.int64, len(frozen)))]
        group_of, channel_of = np.full(len(self.roots), -1, np.int64), np.zeros(len(self.roots), np.int64)
        _, inverse = np.unique(signature[free], axis=0, return_inverse=True)
        members = [free[inverse.reshape(-1) == number] for number in range(int(inverse.max(initial=-1)) + 1)]
        members = [roots for roots in members if len(roots) > 1]  # the last channel cannot go
        members.sort(key=lambda roots: (first[roots[0]], roots[0]))
        for number, roots in enumerate(members):
            group_of[roots] = number
            channel_of[roots] = np.arange(len(roots))
        places: list[list[Place]] = [[] for _ in members]
        for slot in self.slots:
            owner = group_of[self.roots[slot.atoms]]
            for number in np.unique(owner[owner >= 0]).tolist():
                rows = np.flatnonzero(owner == number)
                channel = channel_of[self.roots[slot.atoms[rows]]]
                places[number].append(Place(slot.tensor, slot.axis, slot.consumes, rows, channel))
        groups: dict[str, ChannelGroup] = {}
        for roots, held in zip(members, places, strict=True):
            name = _free_name(_owner(held[0].tensor), groups)
            groups[name] = ChannelGroup(name, len(roots), tuple(held))
        return groups, group_of, channel_of


def _owner(tensor: str) -> str:
    """The module that holds a tensor, or the tensor itself where that is the root."""
    return tensor.rpartition(".")[0] or tensor


def _free_name(wanted: str, taken: Mapping[str, ChannelGroup]) -> str:
    name, number = wanted, 2
    while name in taken:
        name, number = f"{wanted}:{number}", number + 1
    return name


def _each_once(slots: list[Slot]) -> list[Slot]:
    """Without repeats: a module that is called twice says the same twice. The first stands, at its place."""
    first: dict[tuple[str, int], Slot] = {}
    for slot in slots:
        first.setdefault((slot.tensor, slot.axis), slot)
    return list(first.values())


def _settle(flow: Flow) -> None:
    """Ties channels until whatever is removed leaves a whole block of every tensor.

    A tensor whose labels vary along two axes (groups, places), (heads, width) loses whole rows or whole columns, or it would be no
    tensor any more. Where ties have not decided which, it is the axis with more channels.
    """
    grids: dict[bytes, tuple[Labels, set[int]]] = {}

    def note(labels: Labels, whole: set[int]) -> None:
        held = grids.setdefault(str(labels.shape).encode() + labels.tobytes(), (labels, set()))
        held[1].update(whole)

    for made in flow.arrays:
        for arrays in made if made and isinstance(made[0], list) else [made]:
            for labels in arrays:
                if len(varied(labels)) > 1:
                    note(labels, set())
    for labels, axis in flow.whole:
        note(labels, {axis})
    changed = True
    while changed:
        changed = False
        for labels, whole in grids.values():
            changed |= _settle_one(flow, labels, whole)


def _settle_one(flow: Flow, labels: Labels, whole: set[int]) -> bool:
    roots = flow.atoms.find(labels)
    axes = varied(roots)
    constant = {axis for axis in axes if (roots == roots.take([0], axis)).all()}
    if len(axes - constant) == 0:
        return False
    if len(axes - constant) == 1 and not (axes - constant) & whole:
        return False
    choices = sorted(axes - whole, key=lambda axis: (axis not in constant, roots.shape[axis], axis))
    if not choices:
        before = len(flow.atoms.frozen())
        flow.atoms.freeze(roots, "a fixed number of its places is taken apart")
        return len(flow.atoms.frozen()) > before
    flow.collapse(roots, (choices[-1],))
    return True
