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

COMMANDS = ("calibrations", "compare", "configure", "doctor", "inspect", "lock", "settings", "verify")
EXIT_CODES = (
    "exit codes: 0 done, 1 a bug of ours (traceback), 2 a fault that you can repair (one sentence), 130 interrupted"
)


def main(arguments: Optional[Sequence[str]] = None) -> None:
    """Run a command and end the process. Exit codes as in `enginewright.stage`."""
    sys.exit(_run(list(sys.argv[1:] if arguments is None else arguments)))


def _parser() -> argparse.ArgumentParser:
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
    for name in COMMANDS:
        module = importlib.import_module(f"enginewright.cli.{name}")
        command = commands.add_parser(
            name,
            help=module.SUMMARY,
            description=module.SUMMARY[0].upper() + module.SUMMARY[1:] + ".",
            epilog=f"{module.EXAMPLES}\n\n{EXIT_CODES}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(run=module.run)
    return parser


def _run(arguments: list[str]) -> int:
    parsed = _parser().parse_args(arguments)
    try:
        code: int = parsed.run(parsed)
        sys.stdout.flush()
    except EnginewrightError as fault:
        print(f"error: {fault}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:  # `enginewright inspect ... | head`
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # else the interpreter complains when it flushes at exit
        return 128 + signal.SIGPIPE
    return code
