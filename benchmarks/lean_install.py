"""What an application installs and pays: a fresh environment with the wheel and one runtime, and an engine in it.

    python -m benchmarks.lean_install [ENGINE] [IMAGE]

ENGINE is by default the INT8 engine of the pipeline that was reproduced here (`make repro`); IMAGE is any image file,
by default a drawn one. Builds the wheel, installs `enginewright[onnxruntime]`, and writes results/lean_install.json:
the packages, the time of `import enginewright` and of load, and the resident memory after a first answer.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.project_copy import ROOT, call, seconds_in_turns, write_result

ENGINE = Path("artifacts/engines/int8/engine.onnx")
ROUNDS = 15
USE = """
import json, resource, sys, time
start = time.perf_counter()
import enginewright
imported = time.perf_counter()
with enginewright.load(sys.argv[1]) as engine:
    loaded = time.perf_counter()
    outputs = engine.infer(engine.preprocess(sys.argv[2]))
    answered = time.perf_counter()
    scores = next(iter(outputs.values()))
rss = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmRSS"))
print(json.dumps({
    "import_enginewright_ms": round((imported - start) * 1e3, 1),
    "load_ms": round((loaded - imported) * 1e3, 1),
    "preprocess_and_infer_ms": round((answered - loaded) * 1e3, 1),
    "resident_mib": round(rss / 1024, 1),
    "peak_resident_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
    "class": engine.classes[int(scores.argmax())] if engine.classes else int(scores.argmax()),
    "packages_imported": sorted({name.partition(".")[0] for name in sys.modules} & set(sys.argv[3].split(","))),
}))
"""


def main() -> None:
    """Install, run, and write the result."""
    engine = Path(sys.argv[1] if len(sys.argv) > 1 else ENGINE).resolve()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        image = Path(sys.argv[2]).resolve() if len(sys.argv) > 2 else drawn(folder / "image.png")
        python = installed(folder)
        packages = json.loads(call([python, "-m", "pip", "list", "--format=json"], folder))
        own = {
            package["name"]: package["version"] for package in packages if package["name"] not in ("pip", "setuptools")
        }
        carried = folder / engine.parent.name  # away from its project
        shutil.copytree(engine.parent, carried)
        run = [python, "-c", USE, str(carried / engine.name), str(image), ",".join(own)]
        answers = [json.loads(call(run, folder)) for _ in range(ROUNDS)]
        middle = sorted(answers, key=lambda answer: answer["import_enginewright_ms"])[ROUNDS // 2]
        processes = seconds_in_turns(
            {
                "python -c pass": lambda: call([python, "-c", "pass"], folder),
                "python -c 'import numpy'": lambda: call([python, "-c", "import numpy"], folder),
                "python -c 'import enginewright'": lambda: call([python, "-c", "import enginewright"], folder),
                "load an engine and answer": lambda: call(run, folder),
            },
            ROUNDS,
        )
        size = subprocess.run(["du", "-sm", str(folder / "env")], capture_output=True, text=True, check=True).stdout
    write_result(
        "lean_install",
        {
            "installed": "enginewright[onnxruntime]",
            "packages": own,
            "environment_mib": int(size.split()[0]),
            "engine": engine.parent.name,
            "in_the_process": middle,
            "whole_processes": processes,
        },
    )


def installed(folder: Path) -> str:
    """The Python of a fresh environment with the wheel of this checkout."""
    call([sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), str(ROOT)], folder)
    shutil.rmtree(ROOT / "build", ignore_errors=True)
    call([sys.executable, "-m", "venv", str(folder / "env")], folder)
    (wheel,) = folder.glob("*.whl")
    python = str(folder / "env" / "bin" / "python")
    call([python, "-m", "pip", "install", "--quiet", f"{wheel}[onnxruntime]"], folder)
    return python


def drawn(path: Path) -> Path:
    """A picture with a gray square."""
    from PIL import Image

    image = Image.new("L", (56, 48))
    image.paste(200, (16, 12, 40, 36))
    image.save(path)
    return path


if __name__ == "__main__":
    main()
