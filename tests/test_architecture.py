"""What holds the project together and no type checker sees: dvc.yaml against the imports, names, lean imports, Python
3.9, conf/.
"""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
import yaml

from enginewright.cli.composition import compose, groups, to_text
from enginewright.stage import PIPELINE_FILE
from enginewright.toolchain.imports import ALWAYS_RUN, DECIDE_NO_BYTES, Library
from enginewright.toolchain.lockfile import CHOICES, expected_keys
from enginewright.toolchain.pipeline import filled, keys_of
from stages.check_toolchain import CHECKED as CHECKED_FILE
from support.project import ROOT

DVC_YAML: dict[str, dict[str, Any]] = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
STAGES = sorted(DVC_YAML)
OWN_ENTRY = {"check_toolchain"}  # needs the standard library and PyYAML alone, so no harness
LIBRARY = Library(ROOT / "enginewright")
CHECKED = str(CHECKED_FILE)
HEAVY = (
    "torch",
    "tensorrt",
    "tensorrt_rtx",
    "onnxruntime",
    "PIL",
    "pycuda",
    "cuda",
    "mlxtend",
    "matplotlib",
    "pynvml",
    "mlperf_loadgen",
)
OWN_TORCH = tuple(
    f"enginewright.models.{name}"
    for name in ("resnet", "segmenter", "detector", "efficientnet_lite0", "objectives", "training")
)  # classes and decorators of it
SLOW = ("torch", "pandas", "scipy", "onnxruntime", "hydra", "dvc", "rich")  # a tenth of a second to three seconds each


def script(name: str) -> Path:
    return ROOT / "stages" / f"{name}.py"


def entry(item: object) -> str:
    return str(next(iter(item))) if isinstance(item, dict) else str(item)


# --- dvc.yaml


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ALWAYS_RUN])
def test_a_stage_lists_the_keys_of_what_it_executes(name: str) -> None:
    listed = keys_of(DVC_YAML[name], "toolchain.yaml")
    expected = expected_keys(LIBRARY, name)
    assert listed == expected, f"dvc.yaml: stage {name} must list of toolchain.yaml: {expected}"


@pytest.mark.parametrize("name", STAGES)
def test_no_stage_lists_source_of_the_library_among_its_deps(name: str) -> None:
    """A wheel has none in the project: toolchain.yaml counts it."""
    assert not [dep for dep in DVC_YAML[name].get("deps", []) if str(dep).startswith(("enginewright", "stages"))]


def test_what_runs_always_is_always_checked_first() -> None:
    assert {name for name in STAGES if DVC_YAML[name].get("always_changed")} == set(ALWAYS_RUN)
    first = {name for name in STAGES if CHECKED in DVC_YAML[name].get("deps", [])}
    assert {"prepare_data", "export", "probe_target"} <= first
    assert all(first & upstream(name) for name in STAGES if name != "check_toolchain")


def upstream(name: str) -> set[str]:
    """A stage, and what it depends on."""
    found, waiting = set[str](), {name}
    while waiting:
        name = waiting.pop()
        found.add(name)
        deps = [str(dep) for dep in DVC_YAML[name].get("deps", [])]
        waiting |= {
            other
            for other in STAGES
            for out in map(entry, DVC_YAML[other].get("outs", []))
            if any(dep == out or dep.startswith(f"{out}/") for dep in deps)
        } - found
    return found


@pytest.mark.parametrize("name", sorted(DECIDE_NO_BYTES))
def test_what_decides_no_bytes_says_why(name: str) -> None:
    assert DECIDE_NO_BYTES[name], f"{name} is left out of every hash without a reason"
    planned = {"enginewright.conf"}
    assert name in planned or name in LIBRARY.modules, f"{name} is left out of every hash and does not exist"


def test_every_kind_of_member_says_which_setting_chooses_it() -> None:
    settings = yaml.safe_load((ROOT / "params.yaml").read_text())
    for kind in LIBRARY.registries:
        assert kind in CHOICES, f"enginewright/toolchain/lockfile.py: CHOICES has no setting that chooses {kind}"
        for setting in CHOICES[kind].values():
            assert filled("${" + setting + "}", settings)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_has_one_name_everywhere(name: str) -> None:
    stage = DVC_YAML[name]
    assert stage["desc"]
    command = f"python -m stages.{name}"
    assert stage["cmd"] == f"exec {command}" or (name == "check_toolchain" and command in stage["cmd"])
    functions = {
        node.name: [ast.unparse(decorator) for decorator in node.decorator_list]
        for node in ast.parse(script(name).read_text()).body
        if isinstance(node, ast.FunctionDef)
    }
    decorators = [] if name == "check_toolchain" else ["script"]  # which runs without the harness
    assert functions.get(name) == decorators, f"stages/{name}.py must define @script def {name}"
    assert [entry(metric) for metric in stage.get("metrics", [])] == (
        [] if name in ALWAYS_RUN else [f"artifacts/metrics/{name}.json"]
    )


def test_every_script_is_a_stage() -> None:
    assert sorted(path.stem for path in (ROOT / "stages").glob("*.py") if path.stem != "__init__") == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_outputs_lie_under_artifacts_and_deps_are_sorted_out(name: str) -> None:
    outs = [entry(out) for section in ("outs", "metrics", "plots") for out in DVC_YAML[name].get(section, [])]
    assert outs
    assert all(out.startswith("artifacts/") for out in outs), outs
    deps = [entry(dep) for dep in DVC_YAML[name].get("deps", [])]
    assert len(deps) == len(set(deps)), f"{name} lists a dep twice"


@pytest.mark.parametrize("name", STAGES)
def test_declared_params_exist(name: str) -> None:
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    for key in DVC_YAML[name].get("params", []):
        node = params
        for part in key.split(".") if isinstance(key, str) else ():
            assert part in node, f"{PIPELINE_FILE}: stage {name} declares {key}, which params.yaml does not have"
            node = node[part]


# --- imports


def test_the_library_imports_without_heavy_packages() -> None:
    modules = [name for name in LIBRARY.modules if not name.startswith(OWN_TORCH) and not name.endswith("__main__")]
    # A finder, because a None in sys.modules would count as "torch is there" for scipy.
    program = f"""
import importlib, sys
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {HEAVY!r}:
            raise ModuleNotFoundError(f"{{name}} is not on the target")
sys.meta_path.insert(0, Absent())
failed = []
for name in {modules!r}:
    try:
        importlib.import_module(name)
    except ImportError as fault:
        failed.append(f"{{name}}: {{fault}}")
sys.exit("\\n".join(failed) or 0)
"""
    answer = subprocess.run(
        [sys.executable, "-W", "error::ImportWarning", "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stderr


def test_a_stage_starts_without_hydra_and_dvc() -> None:
    program = (
        "import sys, enginewright.stage; print([name for name in ('hydra', 'dvc', 'onnx', 'rich', 'pandas') if name in"
        " sys.modules])"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True).stdout
        == "[]\n"
    )


def test_a_script_imports_nothing_slow_before_its_body() -> None:
    program = f"""
import importlib, sys
for name in {STAGES!r}:
    importlib.import_module(f"stages.{{name}}")
    if found := [package for package in {SLOW!r} if package in sys.modules]:
        sys.exit(f"stages/{{name}}.py imports {{', '.join(found)}} before its work begins; import it in the function")
"""
    answer = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert answer.returncode == 0, answer.stderr


def circle(graph: dict[str, set[str]]) -> str:
    """A circle of imports, as one line; empty if there is none. A child's import of its own package does not count."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as fault:
        return " -> ".join(fault.args[1])
    return ""


def test_no_module_imports_itself_through_others() -> None:
    """Inside a layer too, and with the imports inside functions: import-linter looks between layers alone."""
    graph = {
        module: {
            name
            for name in LIBRARY.imported_by(path, module).modules
            if name != module and not module.startswith(f"{name}.")
        }
        for module, path in LIBRARY.modules.items()
    }
    assert sum(map(len, graph.values())) > len(graph), "the import graph was not read"
    assert not circle(graph)


def test_a_circle_is_seen() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": set()}).count("->") == 3


SHOW = ("enginewright.views", "enginewright.cli")
WHILE_IT_RUNS = {"rich.progress", "rich.console"}  # a bar on the terminal; what was found, views show


def drawn_by(module: str, path: Path) -> set[str]:
    """The modules of Rich that a module imports to show more than progress."""
    imported = {
        node.module or "" if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    rich = {name for name in imported if name.split(".")[0] == "rich"}
    return set() if module.startswith(SHOW) else rich - WHILE_IT_RUNS


def test_what_computes_draws_no_tables() -> None:
    """Nor does it import views: the linter's layers see to that."""
    assert not {module: found for module, path in LIBRARY.modules.items() if (found := drawn_by(module, path))}
    assert drawn_by("enginewright.drift", ROOT / "enginewright/views/drift.py") == {"rich.markup", "rich.table"}


def test_imports_point_one_way() -> None:
    answer = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-cache"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert answer.returncode == 0, answer.stdout


# --- the target's Python


def target_side() -> list[Path]:
    return [*LIBRARY.modules.values(), *sorted((ROOT / "stages").glob("*.py"))]


@pytest.mark.parametrize("path", target_side(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_runs_on_the_target_is_python_3_9(path: Path) -> None:
    tree = ast.parse(path.read_text(), feature_version=(3, 9))
    postponed = any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
    faults = [
        f"line {getattr(node, 'lineno', 1)}: {fault}"
        for node in ast.walk(tree)
        if (fault := newer_than_3_9(node, postponed))
    ]
    assert not faults, "; ".join(faults)


def newer_than_3_9(node: ast.AST, postponed: bool) -> str:
    """What parses as Python 3.9 and still fails there."""
    if isinstance(node, ast.Call):
        name, keywords = ast.unparse(node.func), {keyword.arg for keyword in node.keywords}
        if (name == "zip" and "strict" in keywords) or (name.endswith("dataclass") and keywords & {"slots", "kw_only"}):
            return f"{ast.unparse(node)} is Python 3.10"
        if name in ("isinstance", "issubclass", "Optional") and any(is_union(argument) for argument in node.args):
            return f"{ast.unparse(node)}: X | Y at run time is Python 3.10"
    if isinstance(node, ast.ClassDef) and any(
        "dataclass" in ast.unparse(decorator) for decorator in node.decorator_list
    ):
        unions = [item for item in node.body if isinstance(item, ast.AnnAssign) and is_union(item.annotation)]
        return f"X | Y in the dataclass {node.name}, whose annotations OmegaConf evaluates" if unions else ""
    if isinstance(node, (ast.AnnAssign, ast.arg)) and node.annotation and is_union(node.annotation) and not postponed:
        return f"{ast.unparse(node.annotation)} needs `from __future__ import annotations`"
    if isinstance(node, ast.ImportFrom) and node.module == "typing":
        late = {"TypeAlias", "ParamSpec", "Self", "override", "assert_never", "TypeGuard", "Never"} & {
            alias.name for alias in node.names
        }
        return f"typing.{', '.join(late)} is newer than Python 3.9" if late else ""
    return ""


def is_union(node: ast.AST) -> bool:
    """`a | b` of types, by their looks: None, a builtin type, or a capital letter."""
    if not (isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr)):
        return False
    names = [ast.unparse(side).rpartition(".")[2] for side in (node.left, node.right)]
    return any(
        name in ("None", "str", "int", "float", "bytes", "bool", "dict", "list")
        or (name[:1].isupper() and not name.isupper())
        for name in names
    )


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        pytest.param("zip(a, b, strict=True)", "3.10", id="zip"),
        pytest.param("isinstance(a, int | str)", "3.10", id="runtime-union"),
        pytest.param("@dataclass(slots=True)\nclass A: ...", "3.10", id="slots"),
        pytest.param("@dataclass\nclass A:\n    x: int | None = None", "evaluates", id="schema"),
        pytest.param("from typing import Self", "newer", id="typing"),
        pytest.param("def f(x: int | None): ...", "__future__", id="annotation"),
    ],
)
def test_the_check_for_python_3_9_sees(text: str, fault: str) -> None:
    assert any(fault in newer_than_3_9(node, postponed=False) for node in ast.walk(ast.parse(text)))


# --- conf/

OPTIONS = [(group, option) for group, options in groups(ROOT / "conf").items() for option in options]


@pytest.mark.parametrize(("group", "option"), OPTIONS, ids=[f"{group}={option}" for group, option in OPTIONS])
def test_every_option_of_conf_composes_and_names_its_command(
    group: str, option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ROOT)
    first = (ROOT / "conf" / group / f"{option}.yaml").read_text().splitlines()[:2]
    command = next((line for line in first if line.startswith("# enginewright configure ")), None)
    assert command, f"conf/{group}/{option}.yaml must begin with a command that uses it"
    overrides = [word for word in command.partition("&&")[0].split() if "=" in word]
    compose(overrides)
    named = f"{group}={option}" in overrides
    for override in overrides:  # an experiment may choose it: an option that is of no use without others
        chosen, _, value = override.partition("=")
        named |= (
            chosen == "experiment" and f"/{group}: {option}\n" in (ROOT / f"conf/experiment/{value}.yaml").read_text()
        )
    assert named, f"the command in conf/{group}/{option}.yaml does not use it"


def test_conf_depends_on_no_machine() -> None:
    texts = {path: path.read_text() for path in (ROOT / "conf").rglob("*.yaml")}
    assert not [path for path, text in texts.items() if "${oc." in text.replace("${oc.select:", "")], (
        "a resolver such as oc.env would put this machine's paths into params.yaml"
    )


def test_params_yaml_is_the_composition_of_conf(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert (ROOT / "params.yaml").read_text() == to_text(compose()), "run `enginewright configure`"


# --- the package


def test_sessions_of_onnx_runtime_are_opened_in_one_module() -> None:
    """Else one is opened with a fusion that computes something else: three were (docs/decisions/0026-protocols.md)."""
    opening = {
        name
        for name, path in LIBRARY.modules.items()
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).rpartition(".")[2] == "InferenceSession"
    }
    assert opening == {"enginewright.runtimes.onnxruntime.session"}


def test_the_version_is_written_once() -> None:
    import enginewright

    assert importlib.metadata.version("enginewright") == enginewright.__version__


def test_modules_stay_short() -> None:
    files = {path.relative_to(ROOT).as_posix(): path for path in LIBRARY.modules.values()}
    long = {name: lines for name, path in files.items() if (lines := len(path.read_text().splitlines())) > 400}
    assert not long, f"split them by what changes together: {long}"


LINES_OF_A_BODY = 16


def body_of(name: str) -> tuple[int, list[str]]:
    """How many lines the function of a stage script has below its docstring, and what else the script defines."""
    tree = ast.parse((ROOT / "stages" / f"{name}.py").read_text())
    defined = [node for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Assign))]
    entry = next(node for node in defined if isinstance(node, ast.FunctionDef) and node.name == name)
    body = entry.body[1:] if ast.get_docstring(entry) else entry.body
    others = [ast.unparse(node).splitlines()[0] for node in defined if node is not entry]
    return (body[-1].end_lineno or 0) - body[0].lineno + 1, others


@pytest.mark.parametrize("name", [name for name in STAGES if name not in OWN_ENTRY])
def test_a_stage_script_is_inputs_one_call_into_the_library_and_outputs(name: str) -> None:
    lines, others = body_of(name)
    assert lines <= LINES_OF_A_BODY, f"stages/{name}.py: {lines} lines; move what it computes into the library"
    assert not others, f"stages/{name}.py defines more than the stage: {others}"
