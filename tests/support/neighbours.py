"""A process that takes more of the machine than anything else on it, and what the observer has seen so far."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator

from enginewright.benchmark.observer import Observer

# Threads that hold no interpreter lock while they hash: beside twenty busy processes one thread would get less of a
# core than what disturbs.
BURN = (
    "import hashlib, os, threading\n"
    "def burn():\n"
    "    while os.getppid() != 0: hashlib.pbkdf2_hmac('sha256', b'password', b'salt', 100_000)\n"
    "for _ in range(24): threading.Thread(target=burn).start()"
)
ORPHAN = (
    f"import subprocess as s, sys; print(s.Popen([sys.executable, '-c', {BURN!r}], stdout=s.DEVNULL,"
    " stderr=s.DEVNULL).pid)"
)


@contextlib.contextmanager
def competing() -> Iterator[int]:
    """The number of an orphan that computes: a child of this process would count as the measured process's own."""
    pid = int(subprocess.run([sys.executable, "-c", ORPHAN], capture_output=True, text=True, check=True).stdout)
    try:
        yield pid
    finally:
        os.kill(pid, 9)


def observed(observer: Observer) -> str:
    """The rows that it has written so far, as text."""
    return observer._file.read_text() if observer._file.exists() else ""
