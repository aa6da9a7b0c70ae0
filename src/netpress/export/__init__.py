"""A file's network in a form that others run: one target a file, found by listing this folder.

A target is a module of this package. Its file name, with ``-`` for ``_``, is its public name, and it defines

- ``SUFFIX``: what its files are called at the end;
- ``write(stored, path) -> None``: writes the network of a ``netpress.artifact.Artifact``, which is left as it is; more files may go
  beside ``path``, whose folder is empty, or ``path`` may become a folder;
- ``open(path) -> Callable[[Tensor], Tensor]``: a function that runs what was written, (N, *input_shape) to (N, *output_shape), on the
  CPU. It reads the written file and nothing else of what is there;
- ``about(path) -> dict``: what ``--json`` says besides: versions of packages, of formats. JSON-able;
- ``FOLDER = True`` where ``path`` becomes a folder.

A target that needs a package which netpress does not bring raises `MissingExtraError` from ``write``. `export` lets it write into a
folder aside, runs what is there beside the network, and moves it to its place where both agree; a target need not check anything.
Files whose name begins with an underscore are shared by targets and are none themselves.
"""

from netpress.export._checked import Exported, apart, export, most_apart
from netpress.export._targets import Target, target_by_name, target_names

__all__ = ["Exported", "Target", "apart", "export", "most_apart", "target_by_name", "target_names"]
