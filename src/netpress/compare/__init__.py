"""Comparisons: a grid of jobs read from a file, run once each, kept in a ledger, shown as tables and as a page."""

from netpress.compare.comparison import best_of, compare_ledger, compare_spec
from netpress.compare.jobs import CompareJob, JobContext, TeacherJob
from netpress.compare.markdown import render
from netpress.compare.results import Results
from netpress.compare.run import run_comparison
from netpress.compare.spec import Spec
from netpress.compare.spec_reader import read_spec
from netpress.compare.terminal import terminal_tables

__all__ = [
    "CompareJob",
    "JobContext",
    "Results",
    "Spec",
    "TeacherJob",
    "best_of",
    "compare_ledger",
    "compare_spec",
    "read_spec",
    "render",
    "run_comparison",
    "terminal_tables",
]
