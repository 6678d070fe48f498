"""What every stage script shares: params that dvc.yaml declares for it, whole outputs or none, the device lock,
metrics, exit code.

A stage script is a Hydra app on params.yaml (`python -m stages.export --cfg job` prints what it reads), and refuses
overrides, because DVC would not see them. Exit codes: 0 done, 2 a fault that the user can repair (one sentence), 1 a
bug (traceback), 130 interrupted.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional, cast

import yaml

from enginewright import config, manifest
from enginewright.config import Params
from enginewright.errors import ConfigError, EnginewrightError
from enginewright.layout import Layout
from enginewright.manifest import Usage
from enginewright.results.record import Record
from enginewright.target import TargetFingerprint
from enginewright.toolchain.imports import ALWAYS_RUN
from enginewright.toolchain.lockfile import TOOLCHAIN_FILE, check, locked_packages
from enginewright.toolchain.packages import require_locked

if TYPE_CHECKING:
    import pandas as pd

PIPELINE_FILE = Path("dvc.yaml")

# Hydra would leave outputs/DATE/TIME/.hydra behind, which DVC does not know; with these nothing is left
# (docs/decisions/).
QUIET_HYDRA = ("hydra.run.dir=.", "hydra.output_subdir=null", "hydra/job_logging=none", "hydra/hydra_logging=none")

# libyaml's, where PyYAML was built with it, takes an eighth of the time: every stage reads dvc.yaml, and probe_target
# in each `dvc repro`.
SAFE_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

Metrics = Mapping[str, Any]


class UndeclaredParam(Exception):
    """A stage read a parameter that dvc.yaml does not list for it: a bug, as DVC would not rerun the stage when it
    changes.
    """


class Stage:
    """What a stage's body gets: its parameters and its outputs."""

    def __init__(self, name: str, params: Params, paths: Layout, packages: Optional[Mapping[str, str]] = None) -> None:
        """`params` refuses what dvc.yaml does not declare for `name`; `paths` are the project's; `packages` are the
        versions that run, of a portable stage.
        """
        self.name = name
        self.params = params
        self.paths = paths
        self.packages = packages or {}

    @contextlib.contextmanager
    def output(
        self,
        artifact: Path,
        inputs: Iterable[Path] = (),
        target: Optional[TargetFingerprint] = None,
        settings: Optional[dict[str, Any]] = None,
        *,
        files: Optional[Mapping[str, str]] = None,
        usage: Optional[Usage] = None,
    ) -> Iterator[Path]:
        """Yield a temporary path; on success rename it to `artifact` and seal that with a sidecar, on failure leave
        nothing.

        Args:
            artifact: the file.
            inputs: what it is made from.
            target: see `manifest.seal`.
            settings: read when the block ends, so the block may still fill it.
            files: see `manifest.seal`; they lie beside the artifact already.
            usage: see `manifest.seal`.
        """
        with manifest.replacing(artifact) as temporary:
            yield temporary
        ran = {"packages": dict(self.packages)} if self.packages else {}
        said = {**(settings or {}), **ran}
        manifest.seal(artifact, self.name, inputs, target, said, files=files, usage=usage, project=self.paths)

    def tables(
        self,
        folder: Path,
        tables: Mapping[str, pd.DataFrame],
        inputs: Iterable[Path],
        *,
        sealed: Optional[str],
        target: Optional[TargetFingerprint] = None,
    ) -> None:
        """Write tables as CSV files that belong together.

        Args:
            folder: where to.
            tables: file name -> table.
            inputs: what they are made from.
            target: see `manifest.seal`.
            sealed: the file name of the one that is written last and sealed; its sidecar holds the hashes of the others
                and the inputs that all come from. None for what is not whole.
        """
        beside = {name: table for name, table in tables.items() if name != sealed}
        for name, table in beside.items():
            with manifest.replacing(folder / name) as temporary:
                table.to_csv(temporary, index=False)
        if sealed is not None:
            with self.output(folder / sealed, inputs, target, files=dict.fromkeys(beside, "table")) as temporary:
                tables[sealed].to_csv(temporary, index=False)

    def remove(self, artifact: Path) -> None:
        """Remove an artifact of an earlier run, and its sidecar first: half of the two is never taken for whole."""
        for path in (manifest.sidecar(artifact), artifact):
            path.unlink(missing_ok=True)

    def write_metrics(self, metrics: Metrics) -> None:
        """Write artifacts/metrics/<stage>.json now; a stage that may still fail calls this before it raises."""
        manifest.write_json(self.paths.metrics_of(self.name), metrics)

    def write_record(self, artifact: Path, record: Record, inputs: Iterable[Path], target: TargetFingerprint) -> None:
        """Write and seal a record among the stage's outputs: artifacts/metrics/ is git's, and whoever computes with
        figures reads these.
        """
        with self.output(artifact, inputs, target) as temporary:
            manifest.write_json(temporary, record.to_json())

    @contextlib.contextmanager
    def device(self, device: str) -> Iterator[None]:
        """Hold the machine-wide lock of a device, so that no other build or measurement disturbs this one; waits for
        it, and says so.
        """
        digest = hashlib.sha256(device.encode()).hexdigest()[:16]
        path = Path(tempfile.gettempdir()) / f"enginewright-{os.getuid()}-{digest}.lock"
        with path.open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                print(
                    f"{self.name}: waiting for {device}, which is in use by {lock.read() or 'another process'}",
                    file=sys.stderr,
                    flush=True,
                )
                fcntl.flock(lock, fcntl.LOCK_EX)
            lock.truncate(0)
            lock.write(f"{self.name} (process {os.getpid()})")
            lock.flush()
            yield
            lock.truncate(0)


def script(body: Callable[[Stage], Optional[Metrics]]) -> Callable[[], None]:
    """Turn the body of a stage, a function with the stage's name, into a script's entry point that ends the process."""

    def entry() -> None:
        sys.exit(_run(body.__name__, body))

    return entry


def _run(name: str, body: Callable[[Stage], Optional[Metrics]]) -> int:
    _die_with_parent()
    try:
        _refuse_overrides(name, sys.argv[1:])
        _refuse_unlocked(name)
        params = _declared_params(name)

        def task() -> None:
            stage = Stage(name, params, Layout(), require_locked(locked_packages(Path(), name)))
            metrics = body(stage)
            if metrics is not None:
                stage.write_metrics(metrics)

        if sys.argv[1:]:
            _as_hydra_app(task)
        # what DVC calls: composing params.yaml alone is loading it, and Hydra's import costs more than the probe's
        # whole work
        else:
            task()
    except EnginewrightError as fault:
        print(f"error: {name}: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"error: {name}: interrupted; `dvc repro` starts this stage again", file=sys.stderr)
        return 128 + signal.SIGINT
    except OSError as fault:
        if fault.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        print(
            f"error: {name}: no space left on the disk ({fault.filename or Path.cwd()}); free some and run `dvc repro`"
            " again",
            file=sys.stderr,
        )
        return 2
    return 0


def _refuse_unlocked(name: str) -> None:
    """`dvc repro -s STAGE` skips check_toolchain: a stage asks again, so that nothing is sealed under an old key."""
    if name not in ALWAYS_RUN and (Path() / TOOLCHAIN_FILE).exists():
        check(Path())


def _as_hydra_app(task: Callable[[], None]) -> None:
    """Give `--cfg job`, `--help`, `--info` and the like their Hydra meaning."""
    import hydra

    sys.argv[1:] = [*sys.argv[1:], *QUIET_HYDRA]
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints faults of ours itself, cut short, and exits with 1
    hydra.main(version_base="1.3", config_path=str(Path.cwd()), config_name=config.PARAMS_FILE.stem)(lambda _: task())()


def _refuse_overrides(name: str, arguments: list[str]) -> None:
    for argument in arguments:
        if ("=" in argument or argument.startswith("~")) and not argument.lstrip("+~").startswith("hydra"):
            raise ConfigError(
                f"the override {argument} would not be seen by DVC, which would take the result for that of"
                f" params.yaml; use `enginewright configure {argument} && dvc repro {name}`, or `dvc exp run -S"
                f" {argument}`"
            )


def declared(name: str, pipeline: Path = PIPELINE_FILE) -> list[str]:
    """The keys of params.yaml that dvc.yaml lists for a stage. Raises ConfigError if it does not know the stage."""
    try:
        stages = yaml.load(pipeline.read_text(), SAFE_LOADER)["stages"]
        return [key for key in stages[name].get("params", []) if isinstance(key, str)]
    except FileNotFoundError:
        raise ConfigError(f"{pipeline} does not exist in {Path.cwd()}; run stages from the project's root") from None
    except KeyError:
        raise ConfigError(f"{pipeline} has no stage '{name}'") from None


def _declared_params(name: str) -> Params:
    return cast(Params, Declared(config.read(), declared(name), name))


class Declared:
    """A read-only view of params that raises UndeclaredParam for every key outside of `keys`."""

    def __init__(self, node: object, keys: Iterable[str], stage: str, prefix: str = "") -> None:
        """`keys` are dotted; a key declares everything below it."""
        assert is_dataclass(node)
        self._node, self._keys, self._stage, self._prefix = node, tuple(keys), stage, prefix

    def __getattr__(self, name: str) -> Any:
        if name not in {field.name for field in fields(self._node)}:
            raise AttributeError(name)
        path, value = self._prefix + name, getattr(self._node, name)
        if any(path == key or path.startswith(key + ".") for key in self._keys):
            return value
        if any(key.startswith(path + ".") for key in self._keys):
            return Declared(value, self._keys, self._stage, path + ".")
        raise UndeclaredParam(f"stage {self._stage} reads {path}, which dvc.yaml does not list under its params")


def _die_with_parent() -> None:
    """Ask the kernel to kill this process when dvc dies, so that no orphan computes on beside the next `dvc repro`
    (Linux: prctl(2)).
    """
    parent = os.getppid()
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:  # it died before the call
        os._exit(128 + signal.SIGKILL)
