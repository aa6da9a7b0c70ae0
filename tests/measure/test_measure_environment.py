from __future__ import annotations

import json
from pathlib import Path

import torch

from netpress.measure import environment
from netpress.measure.environment import processor, source_digest


def test_names_what_a_number_depends_on() -> None:
    found = environment()
    assert json.loads(json.dumps(found)) == found
    assert found["torch"] == torch.__version__
    assert found["threads"] == torch.get_num_threads()
    assert found["device"] == "cpu"
    assert found["processor"]


def test_processor_model(tmp_path: Path) -> None:
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name\t: Abacus 9: wooden\n")
    assert processor(tmp_path / "cpuinfo") == "Abacus 9: wooden"
    assert isinstance(processor(tmp_path / "absent"), str)


def test_the_digest_of_the_source_tells_states_of_the_code_apart(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / "notes.md").write_text("not code\n")
    first = source_digest(tmp_path)
    assert len(first) == 8
    source_digest.cache_clear()
    (tmp_path / "notes.md").write_text("other notes\n")
    assert source_digest(tmp_path) == first
    source_digest.cache_clear()
    (tmp_path / "a.py").write_text("x = 2\n")
    assert source_digest(tmp_path) != first
    source_digest.cache_clear()
    assert environment()["source"] == source_digest()
