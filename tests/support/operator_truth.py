"""What INT8 of a small graph computes against the same Q/DQ graph simulated in float64."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Calibration, CalibrationAlgorithm, Placement, Precision
from enginewright.graph.qdq import insert_qdq
from enginewright.graph.reasons import left_in_float
from enginewright.runtimes.onnxruntime.builder import in_precision
from enginewright.runtimes.onnxruntime.calibrator import calibrate
from enginewright.runtimes.onnxruntime.session import open_session
from support.operator_net import Net, run
from support.reference import Array, simulated, sqnr_db, without_pairs

LEAST_EXACT, LEAST_STORED = 90.0, 20.0  # dB; of ONNX Runtime's placement weights are stored as int8
MOST = 100.0  # dB; beyond it all answers are the same


@dataclass(frozen=True)
class Truth:
    """Of one placement."""

    # of the Q/DQ graph in float64 without its pairs, against the float model: rounded weights alone, or not even these
    exact_db: float
    simulated_db: float  # of the Q/DQ graph in float64, against the float model in float64
    executed_db: float  # of what ONNX Runtime computes with its optimizer on, against the float model in float64
    agreement_db: float  # of what ONNX Runtime computes, against the simulation
    float_db: float  # of the float model in ONNX Runtime, against the float model in float64
    stored: bool  # whether the weights are integers in the file
    kernels: tuple[str, ...]  # operators of the optimized graph
    left: dict[str, str]  # what INT8 leaves in float of itself: node -> why

    @property
    def wrong_graph(self) -> bool:
        """Whether the Q/DQ graph means something else than the float model: what no simulation of it can show."""
        return self.exact_db < (LEAST_STORED if self.stored else LEAST_EXACT)

    @property
    def gap_db(self) -> float:
        """What execution loses beyond the rounding that the graph asks for; 0 where it agrees with the simulation
        anyway.
        """
        most = min(
            MOST, self.float_db
        )  # INT8 cannot be nearer than float: of Sigmoid(-12) ONNX Runtime's float32 knows four digits
        return min(self.simulated_db, most) - min(self.executed_db, most) if self.agreement_db < MOST else 0.0


def truth(net: Net, placements: Sequence[Placement] = tuple(Placement)) -> dict[Placement, Truth]:
    """Calibrate by min-max, then run INT8 in each placement, and simulate it."""
    model, feeds = net.model(), net.feeds()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        cache = calibrate(path, [feeds], Calibration(algorithm=CalibrationAlgorithm.minmax))
        names = [output.name for output in model.graph.output]
        exact = _joined(simulated(model, feeds), names)
        plain = sqnr_db(exact, _joined(dict(zip(names, run(model, feeds))), names))
        found = {}
        for placement in placements:
            if placement is Placement.onnxruntime:
                quantized, left = in_precision(path, model, Precision.int8, QuantizationRecipe(cache))
            else:
                left = left_in_float(model, cache.scales, placement)
                quantized = insert_qdq(model, cache.scales, placement)
            optimized = Path(folder) / "optimized.onnx"
            session = open_session(quantized.SerializeToString(), optimized=optimized)
            executed = _joined(dict(zip(names, session.run(names, feeds))), names)
            expected = _joined(simulated(quantized, feeds), names)
            kernels = tuple(node.op_type for node in onnx.load(optimized).graph.node)
            unrounded = _joined(simulated(without_pairs(quantized), feeds), names)
            found[placement] = Truth(
                sqnr_db(exact, unrounded),
                sqnr_db(exact, expected),
                sqnr_db(exact, executed),
                sqnr_db(expected, executed),
                plain,
                placement is Placement.onnxruntime,
                kernels,
                left,
            )
    return found


def _joined(tensors: dict[str, Array], names: Sequence[str]) -> Array:
    """All outputs in one, each with the same weight."""
    flat = [tensors[name].astype(np.float64).reshape(-1) for name in names]
    return (
        np.concatenate([values / (np.sqrt((values**2).mean()) or 1.0) for values in flat]) if len(flat) > 1 else flat[0]
    )
