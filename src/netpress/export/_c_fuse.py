"""Two steps made one, wherever one alone reads what the other makes: fewer values, less memory, the same answers within rounding."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

from netpress.export._c_steps import Add, Affine, Clamp, Conv, Linear, Pool, Program, Step, View

MOST_PAD = 32767


def fuse(program: Program) -> Program:
    """Slices into pads, pads into convolutions, bounds, sums and pools into what comes before them."""
    for rule in (_view_of_view, _padded_conv, _bounded, _summed, _bounded, _pooled):
        program = _wherever(program, rule)
    return program


def _wherever(program: Program, rule: Callable[[Program, Step, Step], Step | None]) -> Program:
    """``rule`` gives the step that does what two do, or None; it takes the later one's place."""
    steps = {step.output: step for step in program.steps}
    readers = Counter(value for step in program.steps for value in step.inputs)
    readers[program.output] += 1
    for output in list(steps):
        while True:
            second = steps[output]
            # the latest first: of a sum of two convolutions, the one before it must be there already
            firsts = [
                steps[value] for value in sorted(second.inputs, reverse=True) if value in steps and readers[value] == 1
            ]
            found = next(((first, both) for first in firsts if (both := rule(program, first, second))), None)
            if found is None:
                break
            first, steps[output] = found
            del steps[first.output]
    return replace(program, steps=tuple(steps.values()))


def _view_of_view(program: Program, first: Step, second: Step) -> Step | None:
    if not isinstance(first.work, View) or not isinstance(second.work, View):
        return None
    slice_, pad = first.work, second.work
    if any(slice_.before) or slice_.length != slice_.out or not _only_pads(pad) or pad.size != slice_.out:
        return None
    return replace(second, work=replace(slice_, out=pad.out, before=pad.before, fill=pad.fill), inputs=first.inputs)


def _padded_conv(program: Program, first: Step, second: Step) -> Step | None:
    view, conv = first.work, second.work
    if (
        not isinstance(view, View)
        or not isinstance(conv, Conv)
        or second.inputs[0] != first.output
        or len(second.inputs) > 1
    ):
        return None
    if not _only_pads(view) or view.fill != 0 or view.size[0] != view.out[0] or view.out != conv.size:
        return None
    pad = (conv.pad[0] + view.before[1], conv.pad[1] + view.before[2])
    if max(pad) > MOST_PAD:
        return None
    size = (view.size[0], view.size[1], view.size[2])
    return replace(second, work=replace(conv, size=size, pad=pad), inputs=first.inputs)


def _only_pads(view: View) -> bool:
    return not any(view.start) and set(view.step) == {1} and view.length == view.size


def _bounded(program: Program, first: Step, second: Step) -> Step | None:
    if not isinstance(second.work, Clamp) or not isinstance(first.work, Conv | Linear | Add | Affine | Clamp):
        return None

    def within(bound: float) -> float:
        return min(max(bound, second.low), second.high)

    return replace(first, output=second.output, low=within(first.low), high=within(first.high))


def _summed(program: Program, first: Step, second: Step) -> Step | None:
    if not isinstance(second.work, Add) or not isinstance(first.work, Conv | Linear):
        return None
    if first.bounded or len(first.inputs) > 1:
        return None
    other = second.inputs[second.inputs[0] == first.output]
    return replace(second, work=first.work, inputs=(first.inputs[0], other))


def _pooled(program: Program, first: Step, second: Step) -> Step | None:
    conv, pool = first.work, second.work
    if not isinstance(conv, Conv) or not isinstance(pool, Pool) or conv.pool is not None or pool.size != conv.out[1:]:
        return None
    return replace(first, work=replace(conv, pool=pool), output=second.output)
