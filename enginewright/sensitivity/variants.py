"""One model with any of its layers left in float: what each such variant is worth on the sensitivity images, by ONNX
Runtime.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Optional

import onnx

from enginewright.accuracy.evaluate import Evaluator
from enginewright.calibration.mixture import float_nodes
from enginewright.calibration.quantize import quantize
from enginewright.calibration.recipe import QuantizationRecipe
from enginewright.config import Placement, Precision
from enginewright.data import ImageSet
from enginewright.data.columns import Column
from enginewright.errors import ModelError
from enginewright.graph import stored
from enginewright.graph.index import Graph
from enginewright.graph.qdq import quantizable
from enginewright.graph.reasons import left_in_float
from enginewright.interface import up_to
from enginewright.plugins import beside
from enginewright.runtimes.onnxruntime.engine import OnnxRuntimeEngine
from enginewright.runtimes.onnxruntime.observe import tensor_values
from enginewright.runtimes.onnxruntime.prepare import prepared
from enginewright.runtimes.onnxruntime.session import Purpose, open_model, open_session
from enginewright.sensitivity.journal import Journal
from enginewright.sensitivity.rehearsal import Rehearsal
from enginewright.tasks.base import Evaluation, Figures, Task


class Variants:
    """The Q/DQ models of one ONNX and one recipe, differing in the layers that stay in float."""

    def __init__(
        self,
        onnx_model: Path,
        recipe: QuantizationRecipe,
        evaluator: Evaluator,
        outputs: Sequence[str],
        journal: Optional[Journal] = None,
        placement: Placement = Placement.onnxruntime,
    ) -> None:
        """Run FP32 once, which the others are compared with.

        `placement`: whose INT8 the variants compute.

        Raises:
            ModelError: ONNX Runtime cannot run the model, or a Conv, ConvTranspose, Gemm or MatMul has no name of its
                own.
            CalibrationMismatch: the recipe is of another model.
        """
        self.path, self._evaluator, self._outputs = onnx_model, evaluator, tuple(outputs)
        self._model, self._recipe = prepared(stored.read(onnx_model), recipe)
        self._journal, self._placement, self._plugins = journal, placement, beside(onnx_model)
        self.rehearsal: Optional[Rehearsal] = None  # the gate that judges each variant, if one is to
        names = [node.name for node in quantizable(self._model)]
        if "" in names or len(set(names)) < len(names):
            raise ModelError(
                f"{onnx_model} has Conv, ConvTranspose, Gemm or MatMul nodes without a name of their own, so none can"
                " be told apart; name the nodes"
            )
        left = {*left_in_float(self._model, self._recipe.scales.scales, placement), *self._recipe.float_decoding}
        self.layers = tuple(
            name for name in names if name not in left
        )  # of which a search may choose: the others are in float already
        self.reused = 0
        start = time.monotonic()
        session = open_session(str(onnx_model), plugins=self._plugins)
        with OnnxRuntimeEngine(onnx_model, session, up_to(evaluator.batch_size)) as engine:
            self._inputs = engine.interface.inputs
            self.evaluated = evaluator.evaluate(engine, Precision.fp32, self._outputs)
        self.seconds = time.monotonic() - start  # of FP32: what a variant takes at least
        self.fp32 = self.task.summary(self.evaluated.rows, self.evaluated.classes)

    @property
    def task(self) -> Task:
        """What the answers are judged by."""
        return self._evaluator.task

    @property
    def images(self) -> ImageSet:
        """What the figures are measured on."""
        return self._evaluator.images

    @property
    def targets(self) -> Optional[Column]:
        """What the images should be answered with, if it is known."""
        return self._evaluator.targets

    def equal(self) -> Evaluation:
        """What an engine would make of the images that answers as FP32 does."""
        assert self.evaluated.outputs is not None  # FP32's are kept
        return self._evaluator.equal(self.evaluated.outputs)

    def traffic(self) -> dict[str, int]:
        """Of every layer, and of every node of the decoding, how many values it reads and writes for one image;
        weights, which a batch shares, are left out.
        """
        graph, layers, decoding = Graph(self._model), quantizable(self._model), set(self.float_decoding)
        nodes = {node.name: node for node in layers}
        nodes.update((graph.key(node), node) for node in graph.nodes if graph.key(node) in decoding)
        moved = {
            name: [tensor for tensor in (*node.input, *node.output) if tensor and graph.constant(tensor) is None]
            for name, node in nodes.items()
        }
        feeds = self._evaluator.feeding.batches(self._inputs, 1)
        tensors = sorted(set().union(*moved.values()))
        values = next(tensor_values(self._model, tensors, feeds, plugins=self._plugins))
        return {name: sum(values[tensor].size for tensor in tensors) for name, tensors in moved.items()}

    def figures(self, kept: Collection[str], operators: Collection[str] = ()) -> Figures:
        """The metrics of the task (agreement with FP32, SQNR, with labels top-1) and of the rehearsal, of the model
        with `kept` left in float.

        Args:
            kept: names of layers; what belongs to them stays in float too (`float_nodes`).
            operators: types of nodes that stay in float wherever they stand.
        """
        nodes = float_nodes(self._model, kept, tuple(operators))
        with stored.scratch():  # each variant has integer weights of its own
            return self._measured(quantize(self._model, self._recipe, self._placement, nodes).model)

    def with_decoding(self) -> Figures:
        """The metrics with every layer in INT8, and the decoding too, which the recipe keeps in float."""
        with stored.scratch():
            whole = replace(self._recipe, float_decoding=())
            return self._measured(quantize(self._model, whole, self._placement).model)

    @property
    def float_decoding(self) -> tuple[str, ...]:
        """The nodes that the recipe keeps in float, and no search asks about."""
        return self._recipe.float_decoding

    def _measured(self, quantized: onnx.ModelProto) -> Figures:
        """The metrics of a variant, which an interrupted analysis may have measured already."""
        digest = stored.sha256(quantized)
        if self._journal is not None and (known := self._journal.get(digest)) is not None:
            self.reused += 1
            return known
        purpose = Purpose.simulate if self._placement is Placement.tensorrt else Purpose.run
        session = open_model(quantized, purpose, plugins=self._plugins)
        with OnnxRuntimeEngine(self.path, session, up_to(self._evaluator.batch_size)) as engine:
            evaluation = self._evaluator.evaluate(engine, Precision.int8_mixed, self._outputs, self.evaluated.outputs)
        found = self.task.summary(evaluation.rows, evaluation.classes)
        if self.rehearsal is not None:
            found.update(self.rehearsal.figures(self.task, evaluation, self.evaluated))
        if self._journal is not None:
            self._journal.add(digest, found)
        return found
