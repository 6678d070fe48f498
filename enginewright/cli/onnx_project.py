"""`enginewright init DIR --onnx`: a project for an existing ONNX file and one's own data, without a line of YAML.

Everything is read before anything is written. What the file and the data do not say is asked for: how images become
the input, and what the output means. A wrong answer to either would be a wrong verdict.
"""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

import yaml

from enginewright.cli import onnx_detector, presets
from enginewright.cli.composition import groups
from enginewright.cli.library import library_conf
from enginewright.cli.onnx_input import (
    DEFAULT,
    Asked,
    Fed,
    described,
    fed_arrays,
    fed_images,
    fitted,
    parse_axes,
    parse_size,
    read_interface,
)
from enginewright.config import Params, Preprocessing
from enginewright.errors import ConfigError, nearest
from enginewright.interface import BATCH, AxisRange, Interface
from enginewright.registry import TASKS

if TYPE_CHECKING:
    import onnx

    from enginewright.cli.onnx_data import Found
    from enginewright.cli.onnx_detector import Detector

LARGE = 100_000  # values of an image: activations of a batch lie in memory at once
AS_IT_IS = "none"  # the recipe of arrays
MODEL_FOLDER = "model"  # of the project, for what is copied there


@dataclass
class Plan:
    """What a project for an ONNX file holds."""

    name: str
    onnx: Path
    task: str
    fed: Fed
    data: dict[str, Any]  # of conf/data/<name>.yaml
    preset: Optional[str] = None
    settings: dict[str, Any] = field(default_factory=dict)  # of data.preprocessing, on top of the preset
    judged: Optional[str] = None
    detector: Optional[Detector] = None  # of task detection
    beside: bool = False  # whether weights lie beside the ONNX file
    copies: dict[str, Path] = field(default_factory=dict)  # path in the project -> what is copied there
    said: list[str] = field(default_factory=list)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what belongs to an existing model."""
    group = parser.add_argument_group("an existing model and its data")
    group.add_argument("--onnx", type=Path, metavar="FILE", help="an ONNX file; it is copied into the project")
    group.add_argument("--data", type=Path, metavar="FOLDER", help="images, or a .npz a sample; it stays where it is")
    group.add_argument(
        "--labels",
        type=Path,
        metavar="FILE",
        help="a CSV of file,class, else sub-folders, or none; of a detector COCO's JSON, else what the folder holds",
    )
    group.add_argument("--classes", type=Path, metavar="FILE", help="a class a line, in the order of the outputs")
    group.add_argument("--task", help="what the output means: " + ", ".join(TASKS.builtin))
    group.add_argument(
        "--preprocess", metavar="NAME", help="how an image becomes the input: a preset (docs/settings.md)"
    )
    group.add_argument(
        "--contract", metavar="NAME", help="what a detector's outputs mean, where their shapes leave a choice"
    )
    group.add_argument("--output", metavar="NAME", help="the output that the task judges, where there are several")
    group.add_argument("--size", metavar="HxW", help="what images become, where the file leaves height and width open")
    group.add_argument(
        "--axes", nargs="+", default=[], metavar="NAME=MIN:OPT:MAX", help="the range of each open axis of the file"
    )


GIVEN_WITH = ("data", "labels", "classes", "task", "preprocess", "contract", "output", "size", "axes")


def planned(arguments: argparse.Namespace) -> Optional[Plan]:
    """Read the file and the data, and decide; None where no ONNX file is given.

    Raises:
        ConfigError: something is missing, with the choices, or does not go together.
        ModelError: the file cannot be used.
        DataError: the data cannot.
    """
    if arguments.onnx is None:
        given = [name for name in GIVEN_WITH if getattr(arguments, name)]
        if given:
            raise ConfigError(f"--{given[0]} goes with --onnx FILE; give that too, or leave it out")
        return None
    if arguments.data is None:
        raise ConfigError("--onnx goes with --data FOLDER, of images or of one .npz a sample; give that too")
    return _read(arguments)


def _read(arguments: argparse.Namespace) -> Plan:
    from enginewright.cli import onnx_data
    from enginewright.importers.files import files_of

    path: Path = arguments.onnx
    model = _sound(path)
    interface = read_interface(model)
    arrays = onnx_data.is_arrays(arguments.data)
    task = _task(arguments.task, interface)
    judged = _judged(interface, task, arguments.output)
    asked = Asked(parse_axes(arguments.axes), parse_size(arguments.size))
    fed = fed_arrays(interface, asked) if arrays else _with_small_batches(fed_images(interface, asked, path.name))
    detector = _detector(arguments, interface, fed, model)
    preset, settings = _preprocessing(arguments, fed, detector)
    found = onnx_data.read(
        onnx_data.Given(arguments.data, arguments.labels, arguments.classes, detector is not None),
        Preprocessing.from_dict({**preset_values(preset), **settings}),
    )
    _require_classes(interface, judged, detector, found, arguments)
    files = files_of(path, model)
    copies = {f"{MODEL_FOLDER}/{file.relative_to(path.parent).as_posix()}": file for file in files}
    plan = Plan(_name(path), path, task, fed, dict(found.options), preset, settings, judged, detector)
    plan.beside = len(files) > 1
    plan.copies = {**found.copies, **copies}
    plan.said = list(_said(plan, interface, found))
    return plan


def _sound(path: Path) -> onnx.ModelProto:
    """Read the model, and refuse what `enginewright check` fails."""
    from enginewright.check_onnx import judge
    from enginewright.check_onnx.report import Severity
    from enginewright.check_onnx.structure import load

    if not path.is_file():
        raise ConfigError(f"--onnx {path} is no file; give an ONNX file")
    failed = [finding for finding in judge(path).findings if finding.severity is Severity.fail]
    if failed:
        more = f", and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise ConfigError(f"{failed[0].what}{more}; {failed[0].remedy} (`enginewright check {path}`)")
    return load(path)


def _task(given: Optional[str], interface: Interface) -> str:
    from enginewright.tasks import get_task

    if given is None:
        choices = "; ".join(f"{name}: {get_task(name).judges}" for name in TASKS.builtin)
        like = onnx_detector.contracts(interface)
        names = ", ".join(contract.name for contract in like)
        hint = f" it has a detector's shapes (--task {onnx_detector.TASK}: {names});" if like else ""
        raise ConfigError(
            f"--task is missing, and the file does not say what its output means;{hint} choose one of {choices}"
        )
    get_task(given)
    return given


def _judged(interface: Interface, task: str, given: Optional[str]) -> Optional[str]:
    """The output that is judged; None for the only one, or for all. Raises ConfigError, or ModelError as the task."""
    from enginewright.tasks import get_task

    judge = get_task(task)
    names = [spec.name for spec in interface.outputs]
    if task == onnx_detector.TASK:
        if given is not None:
            _require_output(given, names)
        return given  # the contract takes the outputs that are its own
    if judge.every_output:
        if given:
            raise ConfigError(f"--output {given}: the task {task} judges every output; leave it out")
        chosen = interface
    else:
        if given is not None:
            _require_output(given, names)
        if given is None and len(names) > 1:
            raise ConfigError(
                f"the model has {len(names)} outputs ({described(interface.outputs)}), and the task {task} judges one;"
                " choose it with --output, or take --task outputs, which judges them all"
            )
        chosen = Interface(interface.inputs, (interface.output(given or names[0]),))
    judge.check(chosen.with_batch(), "the model")
    return given if len(names) > 1 else None


def _require_output(given: str, names: list[str]) -> None:
    if given not in names:
        raise ConfigError(f"--output {given} is no output of the model{nearest(given, names)}")


def _detector(
    arguments: argparse.Namespace, interface: Interface, fed: Fed, model: onnx.ModelProto
) -> Optional[Detector]:
    """What a detector's outputs mean; None of another task."""
    asked: Optional[str] = arguments.contract
    if arguments.task != onnx_detector.TASK:
        if asked:
            raise ConfigError(f"--contract {asked} goes with --task {onnx_detector.TASK}; leave it out")
        return None
    interface = onnx_detector.answered(interface, arguments.onnx, fed.image)
    outputs = tuple(spec for spec in interface.outputs if arguments.output in (None, spec.name))
    return onnx_detector.detector(
        Interface(interface.inputs, outputs), {node.op_type for node in model.graph.node}, asked
    )


def _preprocessing(
    arguments: argparse.Namespace, fed: Fed, detector: Optional[Detector]
) -> tuple[Optional[str], dict[str, Any]]:
    """The preset, and what the input makes of it; neither for arrays."""
    given: Optional[str] = arguments.preprocess
    if fed.image is None:
        if given:
            raise ConfigError(
                f"--preprocess {given} is for images, and {arguments.data} holds arrays, which are fed as they are;"
                " leave it out"
            )
        return None, {"recipe": AS_IT_IS}
    known = presets.described(library_conf())
    if given is None:
        listed = "\n".join(f"  {name:18} {what}" for name, what in known.items())
        usual = ""
        if detector is not None:
            usual = f" of the contract {detector.contract} most take --preprocess {detector.preset};"
        raise ConfigError(
            f"--preprocess is missing, and the file does not say how images become its input;{usual} choose what the"
            f" model was trained with:\n{listed}"
        )
    if given not in known:
        raise ConfigError(f"--preprocess {given} is not a preset{nearest(given, list(known))}")
    return given, fitted(preset_values(given), fed.image, given)


def preset_values(name: Optional[str]) -> dict[str, Any]:
    """What a preset of the library sets; nothing for None."""
    if name is None:
        return {}
    text = (library_conf() / presets.GROUP / f"{name}.yaml").read_text(encoding="utf-8")
    content: dict[str, Any] = yaml.safe_load(text)
    return content


def _require_classes(
    interface: Interface,
    judged: Optional[str],
    detector: Optional[Detector],
    found: Found,
    arguments: argparse.Namespace,
) -> None:
    """Labels must be of the model's classes, in its order: without a list, the folders' names in order are taken."""
    if arguments.task not in ("classification", onnx_detector.TASK) or not found.classes:
        return
    spec = interface.output(judged) if judged else interface.outputs[0]
    classes = spec.shape[1] if detector is None else detector.classes
    if isinstance(classes, int) and classes != len(found.classes):
        raise ConfigError(
            f"the output {described([spec])} has {classes} classes, and {arguments.labels or arguments.data} names"
            f" {len(found.classes)}; list all of the model's, in the order of its outputs, in a file: --classes FILE"
        )


def _name(path: Path) -> str:
    """What options of the project are called: none of the library's is hidden by it."""
    known = groups(library_conf())
    name = re.sub(r"[^A-Za-z0-9_]+", "_", path.stem).strip("_") or "mine"
    return f"{name}_mine" if name in {"base", *known["model"], *known["data"]} else name


def _with_small_batches(fed: Fed) -> Fed:
    """A batch of 8 where images are large, unless another one was asked for."""
    if _is_large(fed) and fed.axes[BATCH] == DEFAULT:
        return replace(fed, axes={**fed.axes, BATCH: AxisRange(1, 8, 32)})
    return fed


def _said(plan: Plan, interface: Interface, found: Found) -> Iterator[str]:
    yield f"model: {plan.onnx.name}, {described(interface.inputs)} -> {described(interface.outputs)}"
    ranges = ", ".join(f"{name} {its.min} to {its.max}" for name, its in plan.fed.axes.items())
    yield f"  axes: {ranges}; task: {plan.task}" + (f" of {plan.judged}" if plan.judged else "")
    if plan.detector is not None:
        why = "as given" if plan.detector.given else "the only one that the shapes allow"
        many = plan.detector.classes
        counted = "" if many is None else f", {many} class{'es' if many > 1 else ''}"
        yield f"  contract: {plan.detector.contract}, {why}{counted}"
    yield from found.said
    image = plan.fed.image
    if image is not None:
        changed = ", ".join(f"{key} {value}" for key, value in plan.settings.items() if key != "size")
        yield f"preprocessing: {plan.preset}, {image.size[0]} x {image.size[1]}" + (f" ({changed})" if changed else "")


def texts(plan: Plan, config: str, folder: Path) -> dict[str, str]:
    """What the project's conf/ holds instead of the library's defaults.

    Args:
        plan: of the project.
        config: the text of conf/config.yaml.
        folder: the project's.

    Returns:
        Path in the project -> text.
    """
    for group, option in (("model", plan.name), ("data", plan.name), (presets.GROUP, plan.preset or "null")):
        config, count = re.subn(rf"(?m)^(  - {group}:) \S+", rf"\1 {option}", config)
        assert count == 1, f"config.yaml chooses no {group}"
    data = {**plan.data, "root": os.path.relpath(plan.data["root"], folder.resolve())}
    head = "# enginewright configure {group}={name}\n# Written by `enginewright init --onnx`; edit it as you like.\n"
    model: dict[str, Any] = {
        "source": "onnx",
        "name": plan.name,
        "path": MODEL_FOLDER if plan.beside else f"{MODEL_FOLDER}/{plan.onnx.name}",
        "task": plan.task,
        "weights": "${model.path}",  # are in the file
        "weights_from": "file",
    }
    if plan.judged:
        model["judged"] = plan.judged
    if plan.detector is not None:
        model["detection"] = {"contract": plan.detector.contract}
    if plan.fed.axis_names:
        model["axis_names"] = {name: dict(places) for name, places in plan.fed.axis_names.items()}
    return {
        "conf/config.yaml": config + _own(plan),
        f"conf/model/{plan.name}.yaml": head.format(group="model", name=plan.name) + _yaml(model),
        f"conf/data/{plan.name}.yaml": head.format(group="data", name=plan.name) + _yaml(data),
    }


def _own(plan: Plan) -> str:
    """What conf/config.yaml sets for this project."""
    axes = {name: its.to_dict() for name, its in plan.fed.axes.items()}
    own: dict[str, Any] = {"axes": axes, **_batches(plan.fed)}
    if plan.settings:
        own["data"] = {"preprocessing": plan.settings}
    return "\n# of this project, by `enginewright init --onnx`\n" + _yaml(own)


def _batches(fed: Fed) -> dict[str, Any]:
    """Batches that the engines take, and that fit into memory: what differs from the defaults."""
    axis, usual = fed.axes[BATCH], Params()
    large, most = _is_large(fed), axis.max
    curve = [batch for batch in usual.benchmark.batch_curve if axis.min <= batch <= most] or [axis.opt]
    wanted: dict[str, dict[str, Any]] = {
        "calibration": {"batch_size": 4 if large else usual.calibration.batch_size},
        "analyze_sensitivity": {"batch_size": 8 if large else usual.analyze_sensitivity.batch_size},
        "accuracy": {"batch_size": min(8 if large else usual.accuracy.batch_size, most)},
        "profile_layers": {"batch_size": min(usual.profile_layers.batch_size, most)},
        "benchmark": {
            "batch_size": min(usual.benchmark.batch_size, most),
            "batch_curve": curve,
            "samples_per_query": min(usual.benchmark.samples_per_query, most),
        },
    }
    changed = {
        section: {key: value for key, value in values.items() if value != getattr(getattr(usual, section), key)}
        for section, values in wanted.items()
    }
    if usual.benchmark.server.max_batch > most:
        changed["benchmark"]["server"] = {"max_batch": most}
    return {section: values for section, values in changed.items() if values}


def _is_large(fed: Fed) -> bool:
    image = fed.image
    return image is not None and image.channels * image.size[0] * image.size[1] >= LARGE


def _yaml(content: Mapping[str, Any]) -> str:
    """Each key on a line of its own, what is below it on that line."""
    lines = []
    for key, value in content.items():
        text = yaml.safe_dump(value, default_flow_style=True, width=10_000, sort_keys=False)
        lines.append(f"{key}: {text.removesuffix('...' + chr(10)).strip()}")
    return "\n".join([*lines, ""])
