"""netpress run"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from netpress.cli import options
from netpress.cli.console import print_json, table

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from netpress.runtime import Network

BATCH = 64


def run(
    file: Annotated[Path, typer.Argument(help="A .netpress file.")],
    inputs: Annotated[Path, typer.Argument(metavar="INPUT", help="An image, a folder of images, or an .npy array.")],
    top: Annotated[int, typer.Option(min=1, help="How many answers to show.")] = 5,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads. Default: all.")] = None,
    as_json: options.JSON = False,
) -> None:
    """What a network answers, without PyTorch: from the file alone, by ONNX Runtime.

    An array is a batch: uint8 as in a file, (N, H, W, C), or the network's own inputs, (N, ...).

    Example: `netpress run small.netpress cat.png`
    """
    from netpress.runtime import load

    network = load(file, threads=threads)
    answers = [
        {"input": name, **_answer(output, network, top)}
        for names, batch in _batches(inputs, network)
        for name, output in zip(names, network(batch), strict=True)
    ]
    if as_json:
        print_json({"file": str(file), "task": network.task, "answers": answers})
        return
    columns: tuple[str, ...]
    rows: list[tuple[object, ...]]
    if network.task == "classification":
        columns = ("input", "rank", "answer", "share")
        rows = [
            (answer["input"] if rank == 1 else "", rank, each["class"] or each["index"], f"{100 * each['share']:.2f} %")
            for answer in answers
            for rank, each in enumerate(answer["top"], 1)
        ]
    else:
        columns = ("input", "output")
        rows = [(answer["input"], "  ".join(f"{number:.5g}" for number in answer["output"])) for answer in answers]
    table(f"{file.name}: {len(answers)} answers", columns, rows, right=(1, 3) if len(columns) == 4 else ())


def _answer(output: NDArray[Any], network: Network, top: int) -> dict[str, Any]:
    """The best classes with their shares (softmax), or the numbers of what is no classification."""
    import numpy as np

    numbers = output.astype(np.float64)
    if network.task != "classification" or numbers.ndim != 1:
        return {"output": [float(number) for number in numbers.reshape(-1)]}
    shares = np.exp(numbers - numbers.max())
    shares /= shares.sum()
    best = np.argsort(-numbers, kind="stable")[:top]
    return {
        "top": [
            {
                "index": int(index),
                "class": network.classes[index] if index < len(network.classes) else None,
                "share": float(shares[index]),
            }
            for index in best
        ]
    }


def _batches(inputs: Path, network: Network) -> Iterator[tuple[list[str], NDArray[Any]]]:
    """Names and inputs, some at a time."""
    import numpy as np

    from netpress.errors import DataError

    if inputs.suffix == ".npy":
        try:
            array = np.load(inputs, mmap_mode="r", allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(
                "the array cannot be read", got=f"{inputs}: {error}", allowed="a file of numpy.save"
            ) from error
        if array.shape == network.input_shape:  # one input alone
            array = array[None]
        for start in range(0, len(array), BATCH):
            part = np.asarray(array[start : start + BATCH])
            yield [f"{inputs.name}[{start + row}]" for row in range(len(part))], part
        return
    paths = _image_files(inputs)
    for start in range(0, len(paths), BATCH):
        some = paths[start : start + BATCH]
        yield [path.name for path in some], _decoded(some, network)


def _image_files(inputs: Path) -> list[Path]:
    from netpress.data.image_files import SUFFIXES
    from netpress.errors import DataError

    if not inputs.exists():
        raise DataError("there is no such input", got=inputs, allowed="an image, a folder of images, or an .npy file")
    if inputs.is_file():
        return [inputs]
    found = sorted(path for path in inputs.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not found:
        raise DataError("the folder has no images", got=inputs, allowed=f"files that end in {', '.join(SUFFIXES)}")
    return found


def _decoded(paths: list[Path], network: Network) -> NDArray[np.uint8]:
    import numpy as np

    from netpress.data.image_files import decode, need_pillow
    from netpress.errors import DataError

    if len(network.input_shape) != 3 or network.input_shape[0] not in (1, 3):
        raise DataError(
            "the network takes no images", got=f"inputs of shape {network.input_shape}", allowed="(1 or 3, H, W)"
        )
    need_pillow()
    channels, height, width = network.input_shape
    return np.stack([decode(path, (height, width), channels) for path in paths])
