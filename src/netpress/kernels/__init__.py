"""Inner loops in C: bit streams, entropy coders, products with coded matrices, quantizers.

Each ``NAME.c`` is one extension module, ``netpress.kernels._NAME``, with functions over buffers; ``NAME.py`` beside it, where
there is one, gives them shapes and types. The kernels know no codec, no network and no file; ``common.h`` says what each of them
keeps to. They are built when netpress is installed (see ``setup.py``); after a change: ``make kernels``.
"""

from __future__ import annotations

import importlib


def __getattr__(name: str) -> object:
    # Asked before the compiled modules are imported: Python's own text would not say what to do where one is missing.
    if name.startswith("_") and not name.startswith("__"):
        try:
            return importlib.import_module(f"{__name__}.{name}")
        except ModuleNotFoundError as error:
            raise ImportError(
                f"the compiled part of netpress is missing: {__name__}.{name}. Install netpress again with pip; from sources "
                "that needs a C compiler (Debian: apt install gcc python3-dev); in a checkout run `make kernels`"
            ) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
