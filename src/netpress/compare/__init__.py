"""Comparisons: a grid of jobs read from a file, run once each, kept in a ledger, shown as tables and as a page."""

from netpress.compare.jobs import CompareJob, JobContext, TeacherJob
from netpress.compare.run import Results, run_comparison
from netpress.compare.spec import Spec
from netpress.compare.spec_reader import read_spec
from netpress.compare.table import render

__all__ = ["CompareJob", "JobContext", "Results", "Spec", "TeacherJob", "read_spec", "render", "run_comparison"]
