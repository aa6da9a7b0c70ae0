"""Builds the compiled kernels: every ``src/netpress/kernels/NAME.c`` becomes the module ``netpress.kernels._NAME``.

Everything else that setuptools needs is in pyproject.toml. The modules keep to the stable ABI of Python 3.11, so that one wheel
serves every later Python, too.
"""

import os
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

FOLDER = Path("src/netpress/kernels")
FLAGS = (
    ["/O2", "/std:c11"]
    if sys.platform == "win32"
    else ["-O3", "-std=c11", "-ffp-contract=fast", "-fvisibility=hidden", "-g0", "-Wall", "-Wextra"]
)


class StableWheel(bdist_wheel):
    """A wheel for CPython 3.11 and everything after it."""

    def finalize_options(self):
        self.py_limited_api = "cp311"
        super().finalize_options()


class SideBySide(build_ext):
    """Compiles as many modules at once as there are processors."""

    def finalize_options(self):
        super().finalize_options()
        self.parallel = self.parallel or os.cpu_count()


setup(
    ext_modules=[
        Extension(
            f"netpress.kernels._{source.stem}",
            [source.as_posix()],
            depends=sorted(header.as_posix() for header in FOLDER.glob("*.h")),
            define_macros=[("Py_LIMITED_API", "0x030B0000")],
            extra_compile_args=FLAGS,
            py_limited_api=True,
        )
        for source in sorted(FOLDER.glob("*.c"))
    ],
    cmdclass={"bdist_wheel": StableWheel, "build_ext": SideBySide},
)
