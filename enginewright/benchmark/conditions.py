"""What telemetry says of a load: throttling, power, and who else used the device. Works on recorded telemetry as well
as on today's.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enginewright.benchmark.telemetry import GPU_COLUMNS, throttle_names

if TYPE_CHECKING:
    import pandas as pd

CLOCKS = ("sm_clock_mhz", "cpu_frequency_mhz")  # the device under load is a GPU where there is one
DROP = 0.9  # of the clock's median in the first minute
FIRST_SECONDS = 60.0
MEANS = ("cpu_frequency_mhz", *(name for name in GPU_COLUMNS if name != "throttle_reasons"))


def conditions(load: pd.DataFrame, images: int) -> dict[str, Any]:
    """Figures of the telemetry of one load; what could not be read is absent.

    Args:
        load: rows of the load in the order of time: seconds (from its start) and the columns of `Telemetry`; may be a
            recording.
        images: how many were answered, for energy.

    Returns:
        Means, power_w_max, energy_j_per_image (trapezoid of power over the load), throttled ("no", or reasons with
        their seconds), other_processes (those that were seen on the device, or "none").
    """
    if load.empty:
        return {}
    found = {
        f"{column}_mean": float(load[column].mean())
        for column in MEANS
        if column in load and load[column].notna().any()
    }
    return {**found, **_power(load, images), "throttled": _throttled(load), "other_processes": _others(load)}


def flagged(load: pd.DataFrame) -> npt.NDArray[np.bool_]:
    """[rows], where the device throttled: NVML gave a reason, or its clock lay under DROP of the first minute's
    median.
    """
    return np.logical_or.reduce([mask for _, mask in _causes(load)]) if len(load) else np.zeros(0, np.bool_)


def _power(load: pd.DataFrame, images: int) -> dict[str, float]:
    from scipy.integrate import trapezoid

    if "power_w" not in load or not load["power_w"].notna().any():
        return {}
    known = load[load["power_w"].notna()]
    figures = {"power_w_max": float(known["power_w"].max())}
    if len(known) > 1 and images:
        joules = float(trapezoid(known["power_w"].to_numpy(np.float64), known["seconds"].to_numpy(np.float64)))
        span = float(known["seconds"].iloc[-1] - known["seconds"].iloc[0])
        share = span / float(load["seconds"].iloc[-1]) if load["seconds"].iloc[-1] > 0 else 1.0
        figures["energy_j_per_image"] = joules / (images * share)
    return figures


def _causes(load: pd.DataFrame) -> list[tuple[str, npt.NDArray[np.bool_]]]:
    causes: list[tuple[str, npt.NDArray[np.bool_]]] = [("", np.zeros(len(load), np.bool_))]
    if "throttle_reasons" in load and load["throttle_reasons"].notna().any():
        reasons = [set(throttle_names(int(value))) for value in load["throttle_reasons"].fillna(0)]
        causes += [(name, np.array([name in row for row in reasons])) for name in sorted(set().union(*reasons))]
    clock = next((column for column in CLOCKS if column in load and load[column].notna().any()), None)
    if clock:
        values = load[clock].to_numpy(np.float64)
        steady = np.nanmedian(
            values[load["seconds"].to_numpy(np.float64) <= max(FIRST_SECONDS, float(load["seconds"].iloc[0]))]
        )
        low = np.nan_to_num(values, nan=np.inf) < DROP * steady
        causes.append((f"{clock[: -len('_mhz')].replace('_', ' ')} under {DROP:.0%} of {steady:.0f} MHz", low))
    return causes


def _throttled(load: pd.DataFrame) -> str:
    seconds = load["seconds"].to_numpy(np.float64)
    said = [f"{name} {_spans(seconds, mask)}" for name, mask in _causes(load) if mask.any()]
    return ", ".join(said) or "no"


def _spans(seconds: npt.NDArray[np.float64], mask: npt.NDArray[np.bool_]) -> str:
    """Stretches in which the mask holds: "12-40 s and 55-56 s"; the three longest, if there are more."""
    borders = np.flatnonzero(np.diff(np.concatenate([[False], mask, [False]]).astype(np.int8)))
    stretches = [(seconds[first], seconds[last - 1]) for first, last in zip(borders[::2], borders[1::2])]
    longest = sorted(sorted(stretches, key=lambda stretch: stretch[0] - stretch[1])[:3])
    more = f" and {len(stretches) - 3} shorter" if len(stretches) > 3 else ""
    return ", ".join(f"{start:.0f}-{end:.0f} s" for start, end in longest) + more


def _others(load: pd.DataFrame) -> str:
    if "other_processes" not in load:
        return "none"
    seen: dict[tuple[int, str], list[tuple[float, float, float]]] = {}
    for seconds, text in zip(load["seconds"], load["other_processes"]):
        for pid, name, cpu, gpu_mib in json.loads(text) if isinstance(text, str) and text else []:
            seen.setdefault((pid, name), []).append((float(seconds), cpu, gpu_mib))
    said = []
    for (pid, name), rows in sorted(seen.items(), key=lambda item: -len(item[1])):
        cpu, gpu = max(row[1] for row in rows), max(row[2] for row in rows)
        used = [f"up to {cpu:.0%} of a core"] if cpu else []
        used += [f"{gpu:.0f} MiB of the GPU" if gpu > 0 else "on the GPU"] if gpu else []
        said.append(f"{name} (process {pid}), {', '.join(used)}, {rows[0][0]:.0f}-{rows[-1][0]:.0f} s")
    return "; ".join(said) or "none"
