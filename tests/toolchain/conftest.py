"""A small library with two stages, a kind of which one stage may get any member, and a project that uses it."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

FILES = {
    "enginewright/__init__.py": "from enginewright.runtimes import get\n",
    "enginewright/manifest.py": "import json\n",
    "enginewright/errors.py": "class Fault(Exception): ...\n",
    "enginewright/stage.py": "from enginewright import unrelated\n",
    "enginewright/unrelated.py": "x = 1\n",
    "enginewright/graph/__init__.py": '"""Nothing."""\n\nfrom __future__ import annotations\n',
    "enginewright/graph/qdq.py": "from enginewright.errors import Fault\nfrom .index import Index\n",
    "enginewright/graph/index.py": "Index = dict\n",
    "enginewright/registry.py": """
        class Registry: ...
        RUNTIMES = Registry(
            "runtimes",
            {
                "null": "enginewright.runtimes.null:RUNTIME",
                "onnxruntime": "enginewright.runtimes.onnxruntime:RUNTIME",
                "tensorrt": "enginewright.runtimes.tensorrt:RUNTIME",
            },
        )
        RECIPES = Registry("recipes", {"crop": "enginewright.crop:RECIPE"})
        TASKS: Registry = Registry("tasks", {"a": "enginewright.tasks.a:TASK", "b": "enginewright.tasks.b:TASK"})
        """,
    "enginewright/crop.py": "RECIPE = 1\n",
    "enginewright/tasks/__init__.py": "from enginewright.registry import TASKS\ndef get_task(): return TASKS\n",
    "enginewright/tasks/base.py": "class Task: ...\n",
    "enginewright/tasks/a.py": "from enginewright.tasks.base import Task\nTASK = Task()\n",
    "enginewright/tasks/b.py": "from enginewright.graph import qdq\nTASK = None\n",
    "enginewright/runtimes/__init__.py": "from enginewright.registry import RUNTIMES\ndef get(): return RUNTIMES\n",
    "enginewright/runtimes/base.py": "",
    "enginewright/runtimes/null/__init__.py": "RUNTIME = 0\n",
    "enginewright/runtimes/onnxruntime.py": "RUNTIME: int = 1\n",
    "enginewright/runtimes/tensorrt/__init__.py": "from enginewright.runtimes.tensorrt.engine import RUNTIME\n",
    "enginewright/runtimes/tensorrt/engine.py": "from enginewright.runtimes import base\nRUNTIME = 2\n",
    "stages/__init__.py": "",
    "stages/calibrate.py": """
        from typing import TYPE_CHECKING
        from enginewright.stage import script
        from enginewright.graph.index import Index
        if TYPE_CHECKING:
            from enginewright.crop import RECIPE
        def calibrate():
            from enginewright.runtimes.onnxruntime import RUNTIME
        """,
    "stages/build_fp32.py": """
        from enginewright.runtimes import get
        from enginewright.tasks import get_task
        from enginewright.graph import qdq
        """,
    "params.yaml": """
        runtime: auto
        calibration: {runtime: onnxruntime}
        model: {task: a}
        data: {source: digits, preprocessing: {recipe: crop}}
        """,
    "dvc.yaml": """
        stages:
          calibrate:
            cmd: x
            params: [seed, toolchain.yaml: [code.calibrate, packages.onnxruntime]]
          build_fp32:
            cmd: x
            params:
            - toolchain.yaml:
              - code.build_fp32
              - code.runtimes.${runtime}
              - code.tasks.${model.task}
        """,
}


def write(root: Path) -> Path:
    """The project, with its library beside it."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(textwrap.dedent(text).lstrip("\n"))
    return root


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write(tmp_path / "project")
