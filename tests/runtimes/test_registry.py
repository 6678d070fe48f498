"""Which backend is taken, and what is said when there is none."""

from __future__ import annotations

import pytest

from enginewright import runtimes
from enginewright.config import RuntimeName
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes import AUTO_ORDER, get_runtime, runtime_named
from enginewright.runtimes.base import Task

NAMES = [name for name in RuntimeName if name is not RuntimeName.auto]


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.name)
def test_a_backend_answers_for_itself(name: RuntimeName) -> None:
    runtime = runtime_named(name)
    assert runtime.name == name.value
    assert runtime.engine_file.startswith("engine.")
    for task in Task:
        reason = runtime.why_not(task)
        assert reason is None or (len(reason) > 10 and "\n" not in reason), f"{name}: {task}: {reason!r}"


@pytest.mark.parametrize("name", NAMES, ids=lambda name: name.name)
@pytest.mark.parametrize("task", list(Task), ids=lambda task: task.name)
def test_a_named_backend_is_given_or_its_reason_is(name: RuntimeName, task: Task) -> None:
    reason = runtime_named(name).why_not(task)
    if reason is None:
        assert get_runtime(name, task) is runtime_named(name)
    else:
        with pytest.raises(RuntimeUnavailable) as fault:
            get_runtime(name, task)
        assert str(fault.value) == f"nothing here can {task.value} ({name.value}: {reason})"


def test_auto_takes_the_first_that_can_do_all_of_it_and_never_null() -> None:
    assert RuntimeName.null not in AUTO_ORDER
    able = [
        name for name in AUTO_ORDER if all(runtime_named(name).why_not(task) is None for task in (Task.build, Task.run))
    ]
    assert able, "onnxruntime is installed with the host extra"
    assert get_runtime(RuntimeName.auto, Task.build, Task.run) is runtime_named(able[0])


def test_where_nothing_works_each_backend_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    unable = [name for name in AUTO_ORDER if runtime_named(name).why_not(Task.run)]
    if not unable:
        pytest.skip("every backend can run engines here")
    monkeypatch.setattr(runtimes, "AUTO_ORDER", tuple(unable))
    with pytest.raises(RuntimeUnavailable) as fault:
        get_runtime(RuntimeName.auto, Task.run)
    for name in unable:
        assert f"{name.value}: {runtime_named(name).why_not(Task.run)}" in str(fault.value)
