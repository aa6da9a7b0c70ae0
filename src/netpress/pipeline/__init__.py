"""Recipe, budget, job, and ``compress()`` that runs them."""

from netpress.pipeline.budget import Budget
from netpress.pipeline.compress import Result, compress
from netpress.pipeline.inputs import Opened, open_network, pick_device
from netpress.pipeline.job import Job
from netpress.pipeline.method import Method, field_docs, find_method, method_name, method_names
from netpress.pipeline.planning import Plan, plan
from netpress.pipeline.recipe import Recipe, recipe_names
from netpress.pipeline.teachers import judge_file, plan_with, train_network

__all__ = [
    "Budget",
    "Job",
    "Method",
    "Opened",
    "Plan",
    "Recipe",
    "Result",
    "compress",
    "field_docs",
    "find_method",
    "judge_file",
    "method_name",
    "method_names",
    "open_network",
    "pick_device",
    "plan",
    "plan_with",
    "recipe_names",
    "train_network",
]
