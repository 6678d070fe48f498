"""A few random edits of a small project leave nothing stale; `python -m benchmarks.edits` plays 150."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.edits import play

pytestmark = [pytest.mark.pipeline, pytest.mark.xdist_group("edits"), pytest.mark.timeout(1800)]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_random_edits_leave_nothing_stale(tmp_path: Path) -> None:
    with np.errstate(all="ignore"):
        played = play(tmp_path, edits=8, seed=7, rebuilds=1, at_once=4)
    assert played.stale == []
    assert played.edits.total() == 8
    assert played.hashes > 400
    assert played.sidecars > 50
    assert played.rebuilt_files > 50
