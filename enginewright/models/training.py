"""Training of the reference model: byte-identical weights on the same machine for the same seed, images and
settings.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor, nn

from enginewright.config import Layout, Preprocessing, Train
from enginewright.data import Feeding, ImageSet
from enginewright.errors import DataError, ModelError
from enginewright.interface import BATCH, TensorSpec
from enginewright.models.objectives import Evaluation, Objective

# One thread: sums are cut up by thread, so their number decides the last bits; a second one gains a third for a model
# this small, and loses tenfold where another process wants the same core.
THREADS = 1
EVALUATION_BATCH = 250
FEWEST_STEPS = 5  # of the schedule: of 4 its rise takes no step, which PyTorch divides by

INPUT = TensorSpec("images", np.dtype(np.float32), (BATCH,))  # fed to a network, which has no interface


@contextmanager
def deterministic(seed: int) -> Iterator[None]:
    """Seed PyTorch, fix its threads, and let it use no operation whose result depends on timing."""
    threads = torch.get_num_threads()
    before = torch.are_deterministic_algorithms_enabled()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(THREADS)
        torch.use_deterministic_algorithms(True)
        try:
            yield
        finally:
            torch.set_num_threads(threads)
            torch.use_deterministic_algorithms(before)


def train(
    network: nn.Module, images: ImageSet, preprocessing: Preprocessing, settings: Train, objective: Objective
) -> None:
    """Train in place, with AdamW on the one-cycle schedule (L. Smith, N. Topin, "Super-Convergence", arXiv 1708.07120).

    Args:
        network: from [N, C, H, W] (or nhwc) to what the objective's loss takes; it is left in eval mode.
        images: the training set, with targets for the objective.
        preprocessing: as for validation and calibration; augmentation comes after it.
        settings: epochs, batch size, peak learning rate.
        objective: loss and targets of the task.

    Order of images and augmentation are drawn from PyTorch's generator: call it within `deterministic(seed)`.

    Raises:
        DataError: the set is empty or has no targets.
        ModelError: the loss is not finite.
    """
    if not len(images):
        raise DataError(
            "the training set is empty: raise data.train_images, or bring weights of your own (model.weights_from file)"
        )
    targets = objective.targets(images, "training")
    from rich.console import Console
    from rich.progress import track

    # Drop a last batch of one image: BatchNorm cannot normalize a single value.
    steps = sum(
        1 for start in range(0, len(images), settings.batch_size) if min(settings.batch_size, len(images) - start) > 1
    )
    optimizer = torch.optim.AdamW(network.parameters(), lr=settings.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=max(settings.epochs * steps, FEWEST_STEPS), pct_start=0.25
    )
    feeding = Feeding(images, replace(preprocessing, layout=Layout.nchw))
    network.train().to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # a third faster on CPUs
    for _ in track(range(settings.epochs), description="training", console=Console(stderr=True), transient=True):
        order = torch.randperm(len(images))
        for step in range(steps):
            rows = order[step * settings.batch_size : (step + 1) * settings.batch_size]
            planes = feeding.rows(rows.numpy(), [INPUT])[INPUT.name]
            batch, wanted = objective.augment(torch.from_numpy(planes), targets(rows.numpy()))
            if preprocessing.layout is Layout.nhwc:
                batch = batch.permute(0, 2, 3, 1).contiguous()
            loss = objective.loss(network(batch), wanted)
            if not torch.isfinite(loss):
                raise ModelError(
                    f"training diverged: the loss is {float(loss)}; lower train.learning_rate, now"
                    f" {settings.learning_rate}"
                )
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
    network.eval().to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]


@torch.no_grad()
def evaluate(network: nn.Module, images: ImageSet, preprocessing: Preprocessing, objective: Objective) -> Evaluation:
    """Figure and loss over the whole set. Raises DataError if it is empty or has no targets."""
    targets = objective.targets(images, "validation")
    if not len(images):
        raise DataError("the validation set is empty: raise data.validation_images")

    def answers() -> Iterator[tuple[Tensor, Tensor]]:
        for index, feeds in enumerate(Feeding(images, preprocessing).batches([INPUT], EVALUATION_BATCH)):
            rows = np.arange(len(images))[index * EVALUATION_BATCH :][:EVALUATION_BATCH]
            yield network(torch.from_numpy(feeds[INPUT.name])), targets(rows)

    return objective.evaluate(answers())


def state_dict_bytes(network: nn.Module) -> bytes:
    """The state dict as torch.save writes it. Through memory: given a path, torch.save puts the file's name into the
    file.
    """
    stream = io.BytesIO()
    torch.save(network.state_dict(), stream)
    return stream.getvalue()
