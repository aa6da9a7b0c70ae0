"""From a grid to jobs, and from a job to the key under which its result is kept.

The key is the SHA-256 of everything that decides the result, and of nothing else: no names for tables, no paths.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from netpress._version import __version__
from netpress.compare.spec import DataSpec, NetworkSpec, RecipeSpec, Stage
from netpress.progress import Progress

#: Of the deciding content; a change here is a change of every key.
CONTENT_FORMAT = 1


@dataclass(frozen=True, kw_only=True)
class TeacherJob:
    """The training of one original network; its result is a file of weights that many jobs share."""

    network: NetworkSpec
    data: DataSpec
    seed: int
    train: Mapping[str, Any]

    @property
    def label(self) -> str:
        return f"{self.network.name} on {self.data.name}"


@dataclass(frozen=True, kw_only=True)
class CompareJob:
    """One cell of the grid.

    Attributes:
        train: The grid's training settings, to be applied to the recipe before its own ``settings``.
        latency: Whether latency is to be timed.
    """

    stage: str
    network: NetworkSpec
    data: DataSpec
    recipe: RecipeSpec
    budget: str | None
    seed: int
    train: Mapping[str, Any]
    latency: bool

    @property
    def names(self) -> dict[str, Any]:
        """What filters see and tables show."""
        return {
            "stage": self.stage,
            "network": self.network.name,
            "data": self.data.name,
            "recipe": self.recipe.name,
            "budget": self.budget,
            "seed": self.seed,
        }

    @property
    def label(self) -> str:
        budget = f", {self.budget}" if self.budget else ""
        return f"{self.recipe.name} on {self.network.name}, {self.data.name}{budget}, seed {self.seed}"

    @property
    def teacher(self) -> TeacherJob | None:
        """The training that must have ended before; None when the network comes with weights."""
        if self.network.train is None:
            return None
        data = self.network.train_on or self.data
        return TeacherJob(network=self.network, data=data, seed=self.network.seed, train=self.network.train)


@dataclass(frozen=True, kw_only=True)
class JobContext:
    """What a running job is given besides itself.

    Attributes:
        key: Its key.
        work: A folder for checkpoints, still there when a killed run goes on, and removed when the job is done.
        file: Where the job writes what it makes: the teacher's weights (it must), the small network (it may).
        teacher: The weights that the run trained for this job; None when the network comes with its own.
    """

    key: str
    work: Path
    file: Path
    teacher: Path | None
    progress: Progress


#: What the caller resolves for a job, all of it JSON: ``network`` (the whole network spec), ``weights`` (the digest of
#: the file, or None), ``data`` (fingerprints of the content), ``recipe`` (every field, defaults too; not for teachers),
#: ``plan`` (every field of the training plan) and ``device`` (its kind). Errors in a recipe or plan surface here.
Resolve = Callable[[CompareJob | TeacherJob], Mapping[str, Any]]
JOB_CONTENT = ("network", "weights", "data", "recipe", "plan", "device")
TEACHER_CONTENT = ("network", "data", "plan", "device")


@dataclass(frozen=True, kw_only=True)
class Keyed:
    """A job with its key, the content the key was made of, and the key of its teacher."""

    job: CompareJob | TeacherJob
    key: str
    content: Mapping[str, Any]
    teacher: Keyed | None = None


def jobs_of(stage: Stage, recipes: Iterable[tuple[str, RecipeSpec]] | None = None) -> list[CompareJob]:
    """The jobs of a stage in their fixed order, filters applied.

    Args:
        recipes: (network name, recipe) pairs that are allowed, for a stage that chooses; None: the stage's recipes with
            every network.
    """
    pairs = [(n.name, r) for n in stage.networks for r in stage.recipes] if recipes is None else list(recipes)
    jobs = [
        CompareJob(
            stage=stage.name,
            network=network,
            data=data,
            recipe=recipe,
            budget=budget,
            seed=seed,
            train=stage.train,
            latency=stage.latency,
        )
        for network in stage.networks
        for data in (network.data or stage.data)
        for name, recipe in pairs
        if name == network.name
        for budget in (stage.budgets if recipe.budgets is None else recipe.budgets)
        for seed in stage.seeds
    ]
    return [job for job in jobs if _kept(job.names, stage)]


def keyed(job: CompareJob | TeacherJob, resolve: Resolve) -> Keyed:
    """The job with its key.

    Raises:
        ValueError: ``resolve`` left out a name of the deciding content, or gave what is no JSON.
    """
    resolved = dict(resolve(job))
    teacher = None
    own: dict[str, Any]
    wanted: tuple[str, ...]
    if isinstance(job, TeacherJob):
        wanted = TEACHER_CONTENT
        own = {"kind": "teacher", "seed": job.seed}
    else:
        wanted = JOB_CONTENT
        teacher = keyed(job.teacher, resolve) if job.teacher is not None else None
        own = {
            "kind": "job",
            "at": job.network.at,
            "budget": job.budget,
            "seed": job.seed,
            "latency": job.latency,
            "teacher": teacher.key if teacher else None,
        }
    missing = [name for name in wanted if name not in resolved]
    if missing:
        raise ValueError(f"the deciding content of {job.label!r} lacks {', '.join(missing)}")
    if isinstance(resolved.get("recipe"), Mapping):
        # A recipe's name is for tables: renaming it must not run the job again.
        resolved["recipe"] = {k: v for k, v in resolved["recipe"].items() if k != "name"}
    content = {"format": CONTENT_FORMAT, "versions": versions(), **own, **resolved}
    return Keyed(job=job, key=key_of(content), content=content, teacher=teacher)


def key_of(content: Mapping[str, Any]) -> str:
    """SHA-256, in hexadecimal, of the canonical JSON of ``content``."""
    return hashlib.sha256(canonical(content).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with sorted keys, no blanks and no NaN: equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def versions() -> dict[str, str]:
    """The versions of the software that decides results."""
    return {"netpress": __version__, "torch": importlib.metadata.version("torch")}


def _kept(names: Mapping[str, Any], stage: Stage) -> bool:
    def matches(rule: Mapping[str, tuple[Any, ...]]) -> bool:
        return all(names[name] in values for name, values in rule.items())

    return (not stage.only or any(map(matches, stage.only))) and not any(map(matches, stage.exclude))
