"""What a comparison's jobs do: the pipeline, bound to the runner."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from netpress import zoo
from netpress.compare.jobs import CompareJob, JobContext, TeacherJob
from netpress.compare.spec import NetworkSpec
from netpress.data import Data, open_data
from netpress.measure import Quality
from netpress.pipeline import Budget, Opened, Recipe, compress, open_network, pick_device, plan_with, train_network


class Work:
    """Resolves and runs the jobs of one comparison.

    Args:
        data_root: Folder of official data files.
        device: Where everything runs.
    """

    def __init__(self, *, data_root: Path | None = None, device: str = "auto") -> None:
        self._root = data_root
        self.device = pick_device(device)
        self._judged: dict[tuple[str, ...], Quality] = {}
        self.open_data = lru_cache(maxsize=4)(self._open_data)
        self._fingerprint = lru_cache(maxsize=None)(self._fingerprint_of)
        self._digest = lru_cache(maxsize=None)(_digest_of)
        self._check = lru_cache(maxsize=None)(self._check_network)

    def resolve(self, job: CompareJob | TeacherJob) -> Mapping[str, Any]:
        """Everything that decides a job's result, as JSON (see ``jobs.Resolve``).

        Raises:
            ConfigError, UnknownNameError, WeightsError, DataError: What the spec names does not exist or does not fit.
        """
        self._check(job.network.net, None if job.network.weights is None else str(job.network.weights), job.data.spec)
        content: dict[str, Any] = {
            "network": self._network(job.network.net),
            "weights": self._digest(_weights(job.network)) if job.network.weights is not None else None,
            "data": self._fingerprint(job.data.spec),
            "device": self.device.type,
        }
        if isinstance(job, TeacherJob):
            return {**content, "plan": plan_with(job.train).as_dict()}
        recipe = recipe_of(job)
        Budget.parse(job.budget)
        return {**content, "recipe": recipe.as_dict(), "plan": recipe.training.as_dict()}

    def run_teacher(self, job: TeacherJob, context: JobContext) -> Mapping[str, Any]:
        """Trains one teacher into ``context.file``."""
        data = self.open_data(job.data.spec)
        opened = open_network(job.network.net, data=data, seed=job.seed)
        document = train_network(
            opened,
            data,
            plan_with(job.train),
            out=context.file,
            device=self.device,
            seed=job.seed,
            progress=context.progress,
            checkpoint=context.work / "teacher.checkpoint",
        )
        return {**document, "file": str(context.file)}

    def run_job(self, job: CompareJob, context: JobContext) -> Mapping[str, Any]:
        """Runs one compression into ``context.file``."""
        data = self.open_data(job.data.spec)
        opened = self._opened(job, context, data)
        # One teacher on one test split has one quality: it is measured by the first job that needs it.
        known = (str(context.teacher or job.network.weights), job.network.net, job.data.spec)
        result = compress(
            opened.network,
            recipe_of(job),
            data,
            job.budget,
            at=job.network.at,
            preprocess=opened.preprocess,
            seed=job.seed,
            device=self.device,
            progress=context.progress,
            work_dir=context.work / "compress",
            out=context.file,
            latency=job.latency,
            quality_before=self._judged.get(known),
        )
        if result.quality_before is not None:
            self._judged[known] = result.quality_before
        return {**result.as_dict(), "file": str(context.file)}

    def _opened(self, job: CompareJob, context: JobContext, data: Data) -> Opened:
        weights = context.teacher if context.teacher is not None else job.network.weights
        return open_network(
            job.network.net, weights=None if weights is None else str(weights), data=data, seed=job.network.seed
        )

    def _open_data(self, spec: str) -> Data:
        return open_data(spec, root=self._root)

    def _check_network(self, net: str, weights: str | None, data: str) -> None:
        # Built and forgotten: a wrong name or weights that do not fit must show before hours of training, not after.
        open_network(net, weights=weights, data=self.open_data(data), seed=0)

    def _network(self, net: str) -> Any:
        """What decides which network is built: its name, or the content of the file that builds it."""
        file, dot_py, function = net.partition(".py:")
        if not dot_py:
            return net
        path = Path(file + ".py")
        return {"file": path.name, "callable": function, "sha256": self._digest(path)}

    def _fingerprint_of(self, spec: str) -> list[str]:
        data = self.open_data(spec)
        return [data.train.fingerprint(), data.test.fingerprint()]


def recipe_of(job: CompareJob) -> Recipe:
    """The job's recipe: its methods, the grid's training settings, then its own settings.

    ``train`` of a spec sets fields of the training plan; the keys ``distill`` and ``hold_out`` set the recipe's.
    """
    recipe = Recipe.read(job.recipe.recipe)
    settings = {
        key if key in ("distill", "hold_out") or "." in key else f"training.{key}": value
        for key, value in job.train.items()
    }
    recipe = recipe.with_settings(settings).with_settings(job.recipe.settings)
    return dataclasses.replace(recipe, name=job.recipe.name)


def _weights(network: NetworkSpec) -> Path:
    return zoo.find_weights(str(network.weights))


def _digest_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
