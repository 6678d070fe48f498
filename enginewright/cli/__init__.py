"""The command line. A command is a module here that COMMANDS names, loaded when it is called for."""

from __future__ import annotations

import argparse
import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Optional

from enginewright import __version__
from enginewright.errors import EnginewrightError

COMMANDS = (
    "calibrations",
    "check",
    "compare",
    "configure",
    "doctor",
    "init",
    "inspect",
    "lock",
    "settings",
    "upgrade",
    "verify",
)
# Modules of the extra: an application that runs engines alone has `enginewright` too, without them.
PIPELINE = ("dvc", "hydra", "omegaconf", "onnx", "pandas", "psutil", "rich", "scipy", "yaml")
NEEDS_PIPELINE = "pip install 'enginewright[pipeline]'"
EXIT_CODES = (
    "exit codes: 0 done, 1 a bug of ours (traceback), 2 a fault that you can repair (one sentence), 130 interrupted"
)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run a command and end the process. Exit codes as in `enginewright.stage`."""
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _parser(names: Sequence[str]) -> argparse.ArgumentParser:
    """The parser of these commands alone: others need not be importable here, nor cost their imports.

    Of several, those that need what is not installed are listed all the same.
    """
    parser = argparse.ArgumentParser(
        prog="enginewright",
        description=(
            "The reproducible road from a PyTorch model to calibrated TensorRT engines. The pipeline itself runs with"
            " `dvc repro`."
        ),
        epilog=EXIT_CODES,
    )
    parser.add_argument("--version", action="version", version=f"enginewright {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="{" + ",".join(COMMANDS) + "}")
    for name in names:
        try:
            module = importlib.import_module(f"enginewright.cli.{name}")
        except ModuleNotFoundError as fault:
            if len(names) == 1 or not _of_the_pipeline(fault):
                raise
            commands.add_parser(name, help=f"needs more: {NEEDS_PIPELINE}")
            continue
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
            epilog=f"{module.EXAMPLES}\n\n{getattr(module, 'EXIT_CODES', EXIT_CODES)}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _of_the_pipeline(fault: ModuleNotFoundError) -> bool:
    return str(fault.name).partition(".")[0] in PIPELINE


def _run(arguments: list[str]) -> int:
    try:
        called = [name for name in arguments[:1] if name in COMMANDS]
        parsed = _parser(called or COMMANDS).parse_args(arguments)
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except EnginewrightError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except ModuleNotFoundError as fault:
        if not _of_the_pipeline(fault):
            raise
        print(f"error: {fault.name} is not installed; {NEEDS_PIPELINE}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # `enginewright inspect ... | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter complains when it flushes at exit
        return 128 + signal.SIGPIPE
    return code
