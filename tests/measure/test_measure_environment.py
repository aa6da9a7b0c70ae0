from __future__ import annotations

import json
from pathlib import Path

import torch

from netpress.measure import environment
from netpress.measure.environment import processor


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
