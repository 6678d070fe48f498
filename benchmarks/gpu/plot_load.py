"""Ten minutes of load as a picture: throughput, clock, temperature and power over time, from the timelines of
benchmarks.gpu.sustained.

Run where Matplotlib is: python -m benchmarks.gpu.plot_load FOLDER PICTURE, e.g. docs/measurements/h200-tensorrt-8.6.0
docs/images/h200_load.png
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd

mpl.use("Agg")
from matplotlib import pyplot as plt

COLOURS = {"int8": "#0072b2", "fp16": "#d55e00"}


def main(folder: Path, picture: Path) -> None:
    """A panel under the other over seconds, a line for each precision, every axis from zero."""
    rows = pd.concat(
        [pd.read_csv(folder / f"sustained_{precision}_timeline.csv") for precision in COLOURS], ignore_index=True
    ).dropna(subset="value")
    names = list(rows["panel"].unique())
    figure, panels = plt.subplots(len(names), 1, sharex=True, figsize=(8, 1.9 * len(names)), layout="constrained")
    for panel, name in zip(panels, names):
        for precision, colour in COLOURS.items():
            shown = rows[(rows["panel"] == name) & (rows["precision"] == precision)]
            panel.plot(shown["seconds"], shown["value"], color=colour, label=precision.upper(), linewidth=1)
        panel.set_title(name, loc="left", fontsize="medium")
        panel.set_ylim(0, 1.15 * rows.loc[rows["panel"] == name, "value"].max())
        panel.grid(alpha=0.3)
    panels[0].legend(loc="lower right")
    panels[-1].set_xlabel("seconds of offline load, batch 256")
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=100)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
