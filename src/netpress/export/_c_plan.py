"""Where each value lies in the arena: results in place of what they are made from, lifetimes that do not meet share memory."""

from __future__ import annotations

from dataclasses import dataclass

from netpress.export._c_steps import Add, Affine, Clamp, Conv, Linear, Pool, Program, Round, Softmax, Step, View


@dataclass(frozen=True)
class Plan:
    """Places in the arena, in numbers of float32.

    Attributes:
        values: Where each value begins.
        planes: Where the scratch plane of a convolution begins, by the place of its step; others need none.
        size: Of the arena.
    """

    values: dict[int, int]
    planes: dict[int, int]
    size: int


@dataclass
class _Room:
    """Memory that one or more values take, one after the other, from step ``first`` to step ``last``."""

    first: int
    last: int
    size: int
    at: int = 0


def plan(program: Program) -> Plan:
    """The places of all values: the largest are placed first, each as low as its lifetime allows."""
    last_use = {value: at for at, step in enumerate(program.steps) for value in step.inputs}
    last_use[program.output] = len(program.steps)
    grids = program.grids
    rooms = {0: _Room(-1, last_use.get(0, -1), program.room(0))}
    planes: dict[int, _Room] = {}
    for at, step in enumerate(program.steps):
        size = program.room(step.output)
        last = last_use.get(step.output, at)
        # a float32 in place of the first of four bytes would take the others with it
        may = [value for value in _may_replace(program, step) if value not in grids or step.output in grids]
        taken = next((value for value in may if _ends(rooms, rooms[value], at, step, value)), None)
        if taken is not None and rooms[taken].size >= size:
            rooms[step.output] = rooms[taken]
            rooms[taken].last = last
        else:
            taken = None
            rooms[step.output] = _Room(at, last, size)
        floats = taken is not None or step.grid is not None  # sums of integers lie elsewhere
        if isinstance(step.work, Conv) and (step.work.pool is not None or (floats and program.integers(step) is None)):
            planes[at] = _Room(at, at, step.work.out[1] * step.work.out[2])
    size = _place([*{id(room): room for room in rooms.values()}.values(), *planes.values()])
    return Plan({value: room.at for value, room in rooms.items()}, {at: room.at for at, room in planes.items()}, size)


def _ends(rooms: dict[int, _Room], room: _Room, at: int, step: Step, value: int) -> bool:
    """Whether nobody but this step reads the room from now on, and the step reads it as ``value`` alone."""
    return room.last == at and all(rooms[other] is not room or other == value for other in step.inputs)


def _may_replace(program: Program, step: Step) -> tuple[int, ...]:
    """Inputs whose memory the result may take: no place is written before everything that needs it has been read."""
    work, first = step.work, step.inputs[0]
    if isinstance(work, Add | Clamp | Affine | Round | Softmax):
        return step.inputs
    if isinstance(work, Pool):
        return (first,) if work.pad == (0, 0) and _shrinks(work.size, work.out) else ()
    if isinstance(work, View):
        # the place of a result in its input never lies before its own place
        inward = not any(work.before) and work.length == work.out and _shrinks(work.size, work.out)
        return (first,) if inward else ()
    if isinstance(work, Linear | Conv) and len(step.inputs) > 1:
        pooled = isinstance(work, Conv) and work.pool is not None
        return () if pooled or first == step.inputs[1] else step.inputs[1:]
    if isinstance(work, Conv) and work.groups == work.size[0] == work.out[0]:
        plane = work.out[1:] if work.pool is None else work.pool.out
        return (first,) if plane[0] * plane[1] <= work.size[1] * work.size[2] else ()
    return ()


def _shrinks(size: tuple[int, ...], out: tuple[int, ...]) -> bool:
    return all(after <= before for before, after in zip(size, out, strict=True))


def _place(rooms: list[_Room]) -> int:
    """Gives each room its place; the size of them together."""
    placed: list[_Room] = []
    for room in sorted(rooms, key=lambda room: (-room.size, room.first)):
        others = sorted((o for o in placed if o.first <= room.last and room.first <= o.last), key=lambda o: o.at)
        room.at = 0
        for other in others:
            if room.at + room.size <= other.at:
                break
            room.at = max(room.at, other.at + other.size)
        placed.append(room)
    return max((room.at + room.size for room in placed), default=0)
