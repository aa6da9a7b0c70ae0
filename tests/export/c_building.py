"""Exports networks as C, compiles them strictly and under sanitizers, and runs them on inputs."""

from __future__ import annotations

import functools
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import nn

from netpress.artifact import Artifact
from netpress.export.c import Summary, export
from netpress.graph import trace
from netpress.maths.row_grids import grid_steps, on_grid

CC = shutil.which("cc")
STRICT = ("-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Wshadow", "-Werror")
SANITIZED = ("-O1", "-fsanitize=address,undefined", "-fno-sanitize-recover=all")

needs_compiler = pytest.mark.skipif(CC is None, reason="there is no C compiler called cc")


@functools.cache
def flags() -> tuple[str, ...]:
    """Strict warnings, and the sanitizers where this compiler has them."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("int main(void) { return 0; }\n")
        command = [str(CC), *SANITIZED, str(source), "-o", f"{folder}/probe"]
        works = subprocess.run(command, capture_output=True).returncode == 0
        works = works and subprocess.run([f"{folder}/probe"], capture_output=True).returncode == 0
    return (*STRICT, *(SANITIZED if works else ("-O1",)))


def compile_c(folder: Path, program: str, *sources: str) -> Path:
    """The program made of sources of ``folder``; a warning is an error."""
    made = folder / program
    ran = subprocess.run(
        [str(CC), *flags(), *sources, "-lm", "-o", str(made)], cwd=folder, capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    return made


def run(program: Path, fed: bytes, *words: str) -> NDArray[np.float32]:
    """The lines that the program prints, as rows of numbers."""
    ran = subprocess.run([str(program), *words], input=fed, capture_output=True)
    assert ran.returncode == 0, ran.stderr.decode()
    return np.array([[float(word) for word in line.split()] for line in ran.stdout.decode().splitlines()], np.float32)


CASE = """#define netpress_run run_{0}
#define netpress_run_bytes run_bytes_{0}
#include "case_{0}/netpress_model.c"
const uint32_t sizes_{0}[2] = {{NETPRESS_INPUTS, NETPRESS_OUTPUTS}};
"""
DECLARED = """extern const uint32_t sizes_{0}[2];
void run_{0}(const float *input, float *output);
void run_bytes_{0}(const uint8_t *pixels, float *output);
"""
DRIVER = """#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
{declared}
static const struct {{
    const uint32_t *sizes;
    void (*run)(const float *, float *);
    void (*run_bytes)(const uint8_t *, float *);
}} cases[] = {{ {listed} }};

int main(int count, char **words) {{
    const int number = atoi(words[1]);
    const uint32_t inputs = cases[number].sizes[0], outputs = cases[number].sizes[1];
    float *input = malloc(inputs * sizeof(float)), *output = malloc(outputs * sizeof(float));
    uint8_t *pixels = malloc(inputs);
    while (count > 2 ? fread(pixels, inputs, 1, stdin) : fread(input, 4 * (size_t)inputs, 1, stdin)) {{
        if (count > 2) cases[number].run_bytes(pixels, output);
        else cases[number].run(input, output);
        for (uint32_t i = 0; i < outputs; i++) printf("%.9g ", (double)output[i]);
        printf("\\n");
    }}
    free(input);
    free(output);
    free(pixels);
    return 0;
}}
"""


@dataclass(frozen=True)
class Exported:
    """A network, what was said when it was exported, and the program that holds it under a number."""

    network: nn.Module
    summary: Summary
    program: Path
    number: int

    def answers(self, inputs: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Outputs of C and of torch, (N, outputs)."""
        with torch.no_grad():
            expected = self.network.eval()(inputs)
        return run(self.program, inputs.numpy().tobytes(), str(self.number)), expected.reshape(len(inputs), -1).numpy()

    def answers_to_bytes(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Outputs of C for stored images."""
        return run(self.program, images.tobytes(), str(self.number), "bytes")


def exported(artifacts: dict[str, Artifact], folder: Path) -> dict[str, Exported]:
    """Networks exported and compiled into one program, which is built once for all of them."""
    summaries, numbers = {}, range(len(artifacts))
    for number, (name, artifact) in enumerate(artifacts.items()):
        summaries[name] = export(artifact.network, artifact, folder / f"case_{number}", measure=False)
        (folder / f"case_{number}.c").write_text(CASE.format(number))
    declared = "".join(DECLARED.format(number) for number in numbers)
    listed = ", ".join(f"{{sizes_{number}, run_{number}, run_bytes_{number}}}" for number in numbers)
    (folder / "driver.c").write_text(DRIVER.format(declared=declared, listed=listed))
    cases = (f"case_{number}.c" for number in numbers)
    program = compile_c(folder, "driver", "driver.c", "case_0/netpress_runtime.c", *cases)
    return {
        name: Exported(artifact.network, summaries[name], program, number)
        for number, (name, artifact) in enumerate(artifacts.items())
    }


def stored(network: nn.Module, shape: tuple[int, ...], preprocess: dict | None = None) -> Artifact:
    """A network as `netpress.artifact.read` gives it."""
    traced = trace(network.eval(), torch.rand(2, *shape))
    return Artifact(traced, shape, preprocess, "classification", (), {}, {})


def close(found: NDArray[np.float32], expected: NDArray[np.float32]) -> bool:
    """Whether outputs agree within 1e-5 of the largest."""
    return found.shape == expected.shape and bool(
        np.abs(found - expected).max() <= 1e-5 * max(1.0, np.abs(expected).max())
    )


def on_rows(network: nn.Module) -> nn.Module:
    """The same network with weights that are whole numbers of a step a row, as `quantize` makes them."""
    with torch.no_grad():
        for parameter in lively(network).parameters():
            if parameter.dim() > 1:
                parameter.copy_(on_grid(parameter, grid_steps(parameter, 127), 127))
    return network


def on_a_grid(network: nn.Module, step: float = 0.05, keep: float = 0.4) -> nn.Module:
    """The same network with weights that are multiples of a step, most of them zero; batch statistics are not trivial."""
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.copy_(torch.round(torch.randn_like(parameter) * 3) * step)
                parameter.mul_(torch.rand_like(parameter) < keep)
    return lively(network)


def lively(network: nn.Module) -> nn.Module:
    """The same network with batch statistics, scales and shifts that make a difference."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
                module.running_mean.normal_()
                module.running_var.uniform_(0.5, 2)
                module.weight.uniform_(-1, 2)
                module.bias.normal_()
    return network
