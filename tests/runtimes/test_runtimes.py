"""Which backend is taken, and what is said when there is none."""

from __future__ import annotations

import pytest

from enginewright import runtimes
from enginewright.errors import RuntimeUnavailable
from enginewright.runtimes import AUTO, AUTO_ORDER, RUNTIMES, get_runtime, runtime_named
from enginewright.runtimes.base import Capability


@pytest.mark.parametrize("name", RUNTIMES.builtin)
def test_a_backend_answers_for_itself(name: str) -> None:
    runtime = runtime_named(name)
    assert runtime.name == name
    assert runtime.engine_file.startswith("engine.")
    for task in Capability:
        reason = runtime.why_not(task)
        assert reason is None or (len(reason) > 10 and "\n" not in reason), f"{name}: {task}: {reason!r}"


@pytest.mark.parametrize("name", RUNTIMES.builtin)
@pytest.mark.parametrize("task", list(Capability), ids=lambda task: task.name)
def test_a_named_backend_is_given_or_its_reason_is(name: str, task: Capability) -> None:
    reason = runtime_named(name).why_not(task)
    if reason is None:
        assert get_runtime(name, task) is runtime_named(name)
    else:
        with pytest.raises(RuntimeUnavailable) as fault:
            get_runtime(name, task)
        assert str(fault.value) == f"nothing here can {task.value} ({name}: {reason})"


def test_auto_takes_the_first_that_can_do_all_of_it_and_never_null() -> None:
    assert "null" not in AUTO_ORDER
    able = [
        name
        for name in AUTO_ORDER
        if all(runtime_named(name).why_not(task) is None for task in (Capability.build, Capability.run))
    ]
    assert able, "onnxruntime is installed with the host extra"
    assert get_runtime(AUTO, Capability.build, Capability.run) is runtime_named(able[0])


def test_where_nothing_works_each_backend_gives_its_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    unable = [name for name in AUTO_ORDER if runtime_named(name).why_not(Capability.run)]
    if not unable:
        pytest.skip("every backend can run engines here")
    monkeypatch.setattr(runtimes, "AUTO_ORDER", tuple(unable))
    with pytest.raises(RuntimeUnavailable) as fault:
        get_runtime(AUTO, Capability.run)
    for name in unable:
        assert f"{name}: {runtime_named(name).why_not(Capability.run)}" in str(fault.value)
