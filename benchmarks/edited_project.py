"""The project that benchmarks/edits.py edits: a folder of tiny images, a model of one's own, weights in a file or
trained.
"""

from __future__ import annotations

import random
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import yaml

from benchmarks.project_copy import call, commit, copy_project

MODEL = """from torch import nn
WIDTH = {width}
class Net(nn.Module):
    def __init__(self, classes, scale=1.0):
        super().__init__()
        self.scale = scale
        self.one = nn.Conv2d(1, WIDTH, 3, stride=2, padding=1)
        self.act = nn.{activation}()
        self.two = nn.Conv2d(WIDTH, 2 * WIDTH, 3, stride=2, padding=1)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.head = nn.Linear(2 * WIDTH, classes)
    def forward(self, x):
        return self.head(self.pool(self.act(self.two(self.act(self.one(x))))).flatten(1)) * self.scale
# {comment}
"""
CONF_MODEL = """name: edited
task: classification
_target_: net.Net
arguments: {classes: 6, scale: 1.0}
code: net.py
weights: artifacts/reference/weights.pt
weights_from: training
inputs: {input: {shape: [batch, 1, 16, 16], dtype: float32}}
outputs: [logits]
"""
CONF_DATA = """source: image_folder
root: images
train_images: 30
calibration_pool: 16
calibration_images: 8
sensitivity_images: 8
validation_images: 16
selection: stratified
selection_seed: null
preprocessing:
  {resize: null, size: [16, 16], channels: gray, scale: 0.00392156862745098, mean: [0.5], std: [0.5], layout: nchw}
"""
FIXED = (
    *("debug=smoke", "model=edited", "data=edited", "accuracy=report_only", "runtime=onnxruntime"),
    *(
        "data.train_images=30",
        "data.calibration_pool=16",
        "data.calibration_images=8",
        "data.sensitivity_images=8",
        "data.validation_images=16",
    ),
    *(
        "accuracy.require_signal=false",
        "train.epochs=1",
        "train.minimum_metric=0",
        "analyze_sensitivity.evaluations=5",
        "search_mixed.evaluations=3",
    ),
    *(
        "benchmark.seconds=0.1",
        "benchmark.warmup_seconds=0.02",
        "benchmark.window_seconds=0.05",
        "benchmark.scenarios=[offline]",
    ),
    *(
        "benchmark.batch_curve=[1]",
        "benchmark.batch_curve_seconds=0.02",
        "benchmark.batch_size=2",
        "benchmark.driver=own",
        "profile_layers.runs=2",
    ),
)
# What `enginewright configure` is told, and what is written into params.yaml by hand.
CHOICES: dict[str, tuple[str, ...]] = {
    "seed": ("0", "1", "2"),
    "calibration.algorithm": ("entropy", "minmax", "percentile"),
    "calibration.batch_size": ("4", "8"),
    "calibration.bias_correction": ("true", "false"),
    "calibration.bins": ("512", "2048"),
    "data.calibration_images": ("6", "8"),
    "data.selection": ("random", "stratified", "coverage"),
    "data.selection_seed": ("null", "3"),
    "data.train_images": ("24", "30"),
    "data.preprocessing.mean": ("[0.5]", "[0.4]"),
    "model.arguments.scale": ("1.0", "2.0"),
    "model.outputs": ("[logits]", "[scores]"),
    "train.epochs": ("1", "2"),
    "export.opset_version": ("15", "17"),
    "export.tolerance": ("0.0001", "0.001"),
    "analyze_sensitivity.placement": ("onnxruntime", "tensorrt"),
    "search_mixed.minimum_int8_share": ("0.3", "0.5"),
    "search_mixed.spare": ("layers", "traffic"),
    "accuracy.confidence": ("0.9", "0.95"),
    "check_drift.distance": ("0.2", "0.3"),
    "axes.batch.opt": ("8", "16"),
    "profile_layers.runs": ("2", "3"),
    "benchmark.batch_size": ("2", "4"),
}
SIDE = 16


def make_project(root: Path, seed: int) -> Path:
    """A checkout with the images, the model and the settings in it, in a repository of its own; nothing is reproduced
    yet.
    """
    root.mkdir(parents=True)
    copy_project(root)
    shutil.rmtree(root / ".git")
    (root / "conf/model/edited.yaml").write_text(CONF_MODEL)
    (root / "conf/data/edited.yaml").write_text(CONF_DATA)
    rng = random.Random(seed)
    for index in range(90):
        write_image(root / f"images/{'abc'[index % 3]}/{index:03}.png", rng)
    commit(root)
    return root


def write_image(path: Path, rng: random.Random) -> None:
    """Noise in gray, as PGM or PNG by the suffix; PGM files of one size all have the same length."""
    from PIL import Image

    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(rng.randrange(2**32)).integers(0, 256, (SIDE, SIDE), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


class Inputs:
    """What a user edits, and ways of editing it; each returns what it did."""

    def __init__(self, root: Path, rng: random.Random) -> None:
        """Write the first state."""
        self.root, self.rng = root, rng
        self.settings: dict[str, str] = {}
        self.code = {"width": "8", "activation": "ReLU", "comment": "0"}
        self.own_weights: int | None = None  # their seed; None trains
        self.settle()
        self._configure()

    def edits(self) -> list[Callable[[], str]]:
        """Settings twice, as there are most of them."""
        data = [
            self.add_image,
            self.remove_image,
            self.replace_image,
            self.rename_class,
            self.empty_class,
            self.other_file,
        ]
        return [
            self.configure,
            self.configure,
            self.by_hand,
            self.by_hand,
            self.model_code,
            self.weights,
            self.layers,
            self.touch,
            *data,
        ]

    def settle(self) -> None:
        """Make the inputs fit each other: weights of the model's shape."""
        text = MODEL.format(**self.code)
        if not (self.root / "net.py").exists() or (self.root / "net.py").read_text() != text:
            (self.root / "net.py").write_text(text)
        if self.own_weights is not None:
            self._write_weights(self.own_weights)

    def saved(self) -> Callable[[], None]:
        """A function that puts back every input as it is now."""
        state = dict(self.settings), dict(self.code), self.own_weights
        paths = [self.root / name for name in ("params.yaml", "layers/search.yaml", "net.py")]
        files = {path: path.read_bytes() for path in (*paths, *(self.root / "images").rglob("*")) if path.is_file()}

        def restore() -> None:
            self.settings, self.code, self.own_weights = state
            shutil.rmtree(self.root / "images")
            for path, content in files.items():
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            self.settle()

        return restore

    def configure(self) -> str:
        """`enginewright configure` with one setting changed; what was written by hand goes back."""
        key = self.rng.choice(sorted(CHOICES))
        self.settings[key] = self.rng.choice(CHOICES[key])
        self._configure()
        return f"configure: {key}={self.settings[key]}"

    def by_hand(self) -> str:
        """A value in params.yaml, which `configure` does not know of."""
        key, path = self.rng.choice(sorted(CHOICES)), self.root / "params.yaml"
        value, params = self.rng.choice(CHOICES[key]), yaml.safe_load(path.read_text())
        *parents, leaf = key.split(".")
        section = params
        for parent in parents:
            section = section[parent]
        section[leaf] = yaml.safe_load(value)
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return f"by hand: {key}={value}"

    def model_code(self) -> str:
        """Another activation or width, or only a comment."""
        name = self.rng.choice(sorted(self.code))
        self.code[name] = self.rng.choice(
            {"width": ["8", "12"], "activation": ["ReLU", "SiLU", "Tanh"], "comment": ["0", "1", "2"]}[name]
        )
        return f"model code: {name} {self.code[name]}"

    def weights(self) -> str:
        """Weights of one's own, of one seed or another, or trained ones again."""
        self.own_weights = self.rng.choice([None, 0, 1])
        self._configure()
        return f"weights: {'trained' if self.own_weights is None else f'of seed {self.own_weights}'}"

    def layers(self) -> str:
        """Layers that stay in FP16: searched, or pinned."""
        layers = self.rng.choice(["search", '["/two/Conv"]', '["/one/Conv", "/head/Gemm"]', "[]"])
        (self.root / "layers/search.yaml").write_text(f"version: 1\nlayers: {layers}\n")
        return f"layers: {layers}"

    def touch(self) -> str:
        """Another time of change, and nothing else."""
        path = self.rng.choice(
            [self.root / "net.py", self.root / "params.yaml", self.root / "layers/search.yaml", *self._images()]
        )
        path.touch()
        return f"touch: {path.relative_to(self.root)}"

    def add_image(self) -> str:
        """A new image in some class, now and then in a new one."""
        classes = self._classes()
        name = self.rng.choice([*classes, *([f"new{self.rng.randrange(10)}"] if len(classes) < 6 else [])])
        path = self.root / f"images/{name}/{self.rng.randrange(10**6):06}.{self.rng.choice(['png', 'pgm'])}"
        write_image(path, self.rng)
        return f"images: {path.relative_to(self.root)} added"

    def remove_image(self) -> str:
        """One image less, if enough are left."""
        if len(self._images()) < 80:
            return self.add_image()
        path = self.rng.choice([path for path in self._images() if len(list(path.parent.iterdir())) > 1])
        path.unlink()
        return f"images: {path.relative_to(self.root)} removed"

    def replace_image(self) -> str:
        """Other pixels under the same name."""
        path = self.rng.choice(self._images())
        write_image(path, self.rng)
        return f"images: {path.relative_to(self.root)} replaced"

    def rename_class(self) -> str:
        """Another name, which may move labels."""
        name = self.rng.choice(self._classes())
        new = f"{self.rng.choice('abcxyz')}{self.rng.randrange(1000)}"
        (self.root / "images" / name).rename(self.root / "images" / new)
        return f"images: class {name} renamed {new}"

    def empty_class(self) -> str:
        """A class folder that holds a placeholder alone comes or goes: it has an index."""
        path = self.root / "images/middle"
        if path.exists() and not any(file.suffix for file in path.iterdir()):
            shutil.rmtree(path)
        elif not path.exists() and len(self._classes()) < 6:
            path.mkdir()
            (path / ".gitkeep").write_text("")
        return f"images: empty class {'there' if path.exists() else 'gone'}"

    def other_file(self) -> str:
        """What is no image among the images."""
        path = self.root / f"images/{self.rng.choice(self._classes())}/notes.txt"
        path.write_text(str(self.rng.randrange(100)))
        return f"images: {path.relative_to(self.root)} written"

    def refused(self) -> tuple[str, str, Callable[[], None]]:
        """Make an edit that DVC would not see the whole of: its name, the sentence that must refuse it, and how to take
        it back.
        """
        ways = [
            self._interpolation,
            self._octal,
            self._second_file,
            self._linked_class,
            self._ignored_class,
            self._nested_target,
        ]
        return self.rng.choice(ways)()

    def _interpolation(self) -> tuple[str, str, Callable[[], None]]:
        return "interpolation", "is an interpolation", self._in_params("seed: ", "seed: ${train.epochs} #")

    def _octal(self) -> tuple[str, str, Callable[[], None]]:
        return "octal number", "is one value to DVC and another to a stage", self._in_params("seed: ", "seed: 0")

    def _nested_target(self) -> tuple[str, str, Callable[[], None]]:
        undo = self._in_params("  arguments:\n", "  arguments:\n    backbone: {deep: [{_target_: os.getcwd}]}\n")
        return "nested factory", "is the only factory", undo

    def _in_params(self, before: str, after: str) -> Callable[[], None]:
        path = self.root / "params.yaml"
        text = path.read_text()
        path.write_text(re.sub(f"(?m)^{before}", lambda _: after, text, count=1))
        return lambda: _write(path, text)

    def _second_file(self) -> tuple[str, str, Callable[[], None]]:
        path, other = self.root / "net.py", self.root / "blocks.py"
        text = path.read_text()
        other.write_text("SCALE = 1\n")
        path.write_text(
            text.replace(
                "        return self.head(", f"        import blocks  # {self.rng.random()}\n        return self.head("
            )
        )

        def undo() -> None:
            path.write_text(text)
            other.unlink()

        return "second file of model code", "imports blocks.py, which DVC does not see", undo

    def _linked_class(self) -> tuple[str, str, Callable[[], None]]:
        link, extra = self.root / "images/linked", self.add_image()
        shutil.copytree(self.root / "images" / self._classes()[0], self.root / "elsewhere")
        link.symlink_to(Path("../elsewhere"))

        def undo() -> None:
            link.unlink()
            shutil.rmtree(self.root / "elsewhere")

        del extra  # an image that DVC does see, so that prepare_data runs
        return "linked class", "is a link to a folder, which DVC does not follow", undo

    def _ignored_class(self) -> tuple[str, str, Callable[[], None]]:
        path, name = self.root / ".dvcignore", self._classes()[0]
        text = path.read_text()
        path.write_text(f"{text}/images/{name}\n")
        return "ignored class", "DVC does not see images/", lambda: _write(path, text)

    def _images(self) -> list[Path]:
        return sorted(path for path in (self.root / "images").rglob("*") if path.suffix in (".png", ".pgm"))

    def _classes(self) -> list[str]:
        return sorted(path.name for path in (self.root / "images").iterdir())

    def _configure(self) -> None:
        own = ["model.weights_from=file", "model.weights=own.pt"] if self.own_weights is not None else []
        overrides = [*FIXED, *(f"{key}={value}" for key, value in self.settings.items()), *own]
        call([sys.executable, "-m", "enginewright.cli", "configure", *overrides], self.root)

    def _write_weights(self, seed: int) -> None:
        import torch

        width, generator = int(self.code["width"]), torch.Generator().manual_seed(seed)
        shapes = {"one": (width, 1, 3, 3), "two": (2 * width, width, 3, 3), "head": (6, 2 * width)}
        state = {f"{name}.weight": torch.randn(*shape, generator=generator) / 4 for name, shape in shapes.items()}
        state |= {f"{name}.bias": torch.randn(shape[0], generator=generator) / 4 for name, shape in shapes.items()}
        torch.save(state, self.root / "own.pt")


def _write(path: Path, text: str) -> None:
    path.write_text(text)
