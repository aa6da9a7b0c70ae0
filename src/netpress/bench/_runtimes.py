"""What networks are timed in: a table from a runtime's name to how it is started.

As a program, ``python -m netpress.bench._runtimes '{"runtime": ..., "form": ..., "shape": ..., ...}'``, this file starts one network
in one runtime, lets it answer once and ends: the process whose memory is measured. Torch is imported only where it is the runtime.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from netpress.errors import ConfigError, MissingExtraError, UnknownNameError

if TYPE_CHECKING:
    import torch

Call = Callable[[], NDArray[Any]]
"""One run of a network on the input that it was started with."""


@dataclass(frozen=True, kw_only=True)
class Runtime:
    """One way to run a file's network on the CPU.

    Attributes:
        package: What has to be installed; its version is reported.
        form: The export target whose files it opens; None where it opens the ``.netpress`` file itself.
        start: Form, input (N, ...) and number of threads to a call that answers this input.
        imports: What a process has imported before it opens anything: the baseline of its memory.
        by_name: Timed only where it is named.
    """

    package: str
    form: str | None
    start: Callable[[Path, NDArray[Any], int], Call]
    imports: tuple[str, ...]
    by_name: bool = False


def _torch(form: Path, x: NDArray[Any], threads: int) -> Call:
    """As `netpress.load` gives the network, in channels-last order if it can. Torch's threads are the process's: not put back here."""
    import torch

    from netpress.artifact import load
    from netpress.measure import ready

    torch.set_num_threads(threads)
    call = ready(load(form), torch.from_numpy(x))

    def run() -> NDArray[Any]:
        with torch.inference_mode():
            return _numpy(call())

    return run


def _torch_compile(form: Path, x: NDArray[Any], threads: int) -> Call:
    """The exported program, compiled for this input with its weights frozen, which is what lets integers run as integers."""
    import torch

    from netpress.export import target_by_name

    torch.set_num_threads(threads)
    program, fed = target_by_name("torch-export").open(form), torch.from_numpy(x)
    try:
        with warnings.catch_warnings(), torch.inference_mode():
            warnings.simplefilter("ignore")  # of the compiler's own inner workings
            from torch._inductor import config

            compiled = torch.compile(program)
            with config.patch(freezing=True):
                compiled(fed)
    except torch._dynamo.exc.BackendCompilerFailed as error:
        raise ConfigError(
            "torch.compile failed on this network",
            got=next(iter(str(error.inner_exception).strip().splitlines()), type(error.inner_exception).__name__),
            remedy="it needs a C++ compiler; leave torch-compile out of the runtimes",
        ) from error

    def run() -> NDArray[Any]:
        with torch.inference_mode():
            return _numpy(compiled(fed))

    return run


def _onnxruntime(form: Path, x: NDArray[Any], threads: int) -> Call:
    from netpress import runtime

    # Each session has a pool of its own, whose threads spin for some 20 ms after a run in the hope of more work. With several
    # sessions in one process that takes cores from the network that is timed just then.
    session = runtime.start(form, threads, spinning=threads == 1)
    return lambda: runtime.run(session, x)


def _openvino(form: Path, x: NDArray[Any], threads: int) -> Call:
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "openvino", "timing a network in OpenVINO") from error
    core = openvino.Core()
    model = core.read_model(form)
    model.reshape(list(x.shape))  # as it is deployed: shapes that are open cost time at each run
    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",  # of what is not stored as integers; else some processors take bfloat16
        "ENABLE_CPU_PINNING": False,  # the other runtimes do not tie their threads to a core that may be busy either
    }
    compiled = core.compile_model(model, "CPU", settings)
    return lambda: np.asarray(compiled(x)[0])


def _executorch(form: Path, x: NDArray[Any], threads: int) -> Call:
    """By the export target, once there is one. Its pool of threads is the process's, and made anew where its size changes."""
    import torch

    from netpress.export import target_by_name

    pool: Any = importlib.import_module("executorch.extension.pybindings.portable_lib")
    if pool._threadpool_get_thread_count() != threads:
        pool._unsafe_reset_threadpool(threads)  # "unsafe" while a network runs, and none does
    answers, fed = target_by_name("executorch").open(form), torch.from_numpy(x)
    return lambda: _numpy(answers(fed))


def _numpy(answer: torch.Tensor) -> NDArray[Any]:
    array: NDArray[Any] = answer.detach().numpy()
    return array


RUNTIMES: dict[str, Runtime] = {
    "torch": Runtime(
        package="torch", form=None, start=_torch, imports=("torch", "netpress.artifact.reading", "netpress.measure")
    ),
    "torch-compile": Runtime(
        package="torch",
        form="torch-export",
        start=_torch_compile,
        imports=("torch", "netpress.export", "torch._inductor.config"),
        by_name=True,  # it takes seconds, and a C++ compiler
    ),
    "onnxruntime": Runtime(
        package="onnxruntime", form="onnx", start=_onnxruntime, imports=("onnxruntime", "netpress.runtime")
    ),
    "openvino": Runtime(package="openvino", form="openvino", start=_openvino, imports=("openvino",)),
    "executorch": Runtime(
        package="executorch",
        form="executorch",
        start=_executorch,
        imports=("torch", "netpress.export", "executorch.exir", "executorch.runtime"),
    ),
}


def runtime_by_name(name: str) -> Runtime:
    """The runtime of that name.

    Raises:
        UnknownNameError: There is none.
    """
    if name not in RUNTIMES:
        raise UnknownNameError("runtime", name, RUNTIMES)
    return RUNTIMES[name]


def installed_runtimes() -> tuple[str, ...]:
    """Those that need not be named, whose package is there and whose form netpress writes, in the order of the table."""
    from netpress.export import target_names

    return tuple(
        name
        for name, runtime in RUNTIMES.items()
        if not runtime.by_name
        and runtime.form in (None, *target_names())
        and importlib.util.find_spec(runtime.package) is not None
    )


def command(
    name: str, form: Path | None = None, *, shape: tuple[int, ...] = (), dtype: str = "float32", threads: int = 1
) -> list[str]:
    """The process of one runtime that opens ``form`` and answers zeros of ``shape`` (N, ...) once; without a form it only imports."""
    job = {"runtime": name, "form": None if form is None else str(form), "shape": shape, "dtype": dtype}
    return [sys.executable, "-m", __name__, json.dumps({**job, "threads": threads})]


def main(job: dict[str, Any]) -> None:
    """What that process does."""
    runtime = runtime_by_name(job["runtime"])
    for module in runtime.imports:
        importlib.import_module(module)
    if job["form"] is not None:
        runtime.start(Path(job["form"]), np.zeros(job["shape"], job["dtype"]), job["threads"])()


if __name__ == "__main__":
    main(json.loads(sys.argv[1]))
