"""Values that are stored as bytes: rounded ones whose readers all take whole numbers.

Those are layers whose weights are whole numbers of a step a row, which then multiply integers with integers, sums of two values,
bounds, other grids, and slices and pads. A rounded value that anything else reads stays float32, on its grid.
"""

from __future__ import annotations

from dataclasses import replace

from netpress.export._c_steps import Add, Clamp, Conv, Grid, Linear, Program, Round, Step, View
from netpress.export._c_weights import whole_rows

MOST_LEVELS = 256
MOST_SUM = 2**31 - 1


def as_bytes(program: Program) -> Program:
    """The program with `Step.grid` where a value is stored in bytes; `Round` is left where it is not."""
    readers: dict[int, list[Step]] = {value: [] for value in program.shapes}
    for step in program.steps:
        for value in step.inputs:
            readers[value].append(step)
    made: dict[int, Step] = {}
    for step in program.steps:
        source = step.inputs[0]
        if isinstance(step.work, Round) and _fits(program, readers, step.output, step.work.grid):
            before = made.get(source)
            alone = readers[source] == [step] and source != program.output
            if before is not None and alone and before.grid is None and _rounds(before):
                del made[source]
                made[step.output] = replace(before, output=step.output, grid=step.work.grid)
                continue
            step = Step(Clamp(), step.inputs, step.output, grid=step.work.grid)
        elif isinstance(step.work, View) and source in made and made[source].grid is not None:
            step = replace(step, grid=made[source].grid)
        made[step.output] = step
    return replace(program, steps=tuple(made.values()))


def _fits(program: Program, readers: dict[int, list[Step]], value: int, grid: Grid) -> bool:
    """Whether whoever reads the value takes bytes of this grid."""
    if grid.high - grid.low >= MOST_LEVELS or value == program.output:
        return False
    return all(_reads_bytes(program, readers, step, value, grid) for step in readers[value])


def _reads_bytes(program: Program, readers: dict[int, list[Step]], step: Step, value: int, grid: Grid) -> bool:
    work = step.work
    if isinstance(work, Conv | Linear):
        if step.inputs[0] != value:
            return True  # it is added to the result
        found = whole_rows(work.matrix.weight)
        return found is not None and found[1].shape[1] * 127 * (MOST_LEVELS - 1) <= MOST_SUM
    if isinstance(work, View):
        return work.fill == 0 and _fits(program, readers, step.output, grid)
    if isinstance(work, Round):  # from one grid to another
        return _fits(program, readers, step.output, work.grid)
    return isinstance(work, Add | Clamp)


def _rounds(step: Step) -> bool:
    """Whether a step can round its result itself; pools come behind the bounds, and the rounding behind the pool."""
    return isinstance(step.work, Linear | Add | Clamp) or (isinstance(step.work, Conv) and step.work.pool is None)
