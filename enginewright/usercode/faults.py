"""What the user's own code raised, in one line: the fault and where it is, instead of a traceback."""

from __future__ import annotations

import traceback
from pathlib import Path


def told(fault: BaseException) -> str:
    """Return such as "KeyError: 'classes' (own_model.py, line 8)": where the innermost code of the user's stands."""
    frames = traceback.extract_tb(fault.__traceback__)
    own = [frame for frame in frames if "site-packages" not in frame.filename and "<frozen" not in frame.filename]
    words = " ".join(str(fault).split()) or "no reason given"
    place = f" ({Path(own[-1].filename).name}, line {own[-1].lineno})" if own else ""
    return f"{type(fault).__name__}: {words if len(words) <= MOST else words[:MOST] + '...'}{place}"


MOST = 200  # characters of what it says
