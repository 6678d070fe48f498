"""The fingerprint from /proc/cpuinfo texts of real machines, cut to the lines that count."""

from __future__ import annotations

from pathlib import Path

import pytest

from enginewright import target
from enginewright.errors import StaleArtifact
from enginewright.target import TargetFingerprint

XEON = """processor\t: 0
vendor_id\t: GenuineIntel
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
cpu MHz\t\t: 2699.998
flags\t\t: fpu sse4_2 avx avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8
processor\t: 1
model name\t: Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz
cpu MHz\t\t: 3100.001
flags\t\t: fpu sse4_2 avx avx2 avx512f avx512_vnni amx_bf16 amx_tile amx_int8
"""
EPYC = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\nflags\t\t: fpu sse4_2 avx avx2\n"
ORIN = (
    "processor\t: 0\nBogoMIPS\t: 62.50\nFeatures\t: fp asimd evtstrm aes atomics fphp asimdhp asimdrdm lrcpc dcpop"
    " asimddp\nCPU implementer\t: 0x41\n"
)
RASPBERRY_PI_4 = "processor\t: 0\nFeatures\t: fp asimd evtstrm crc32 cpuid\n"
HYBRID = "model name\t: one\nflags\t\t: avx2 avx_vnni avx512f\nflags\t\t: avx2 avx_vnni\n"


@pytest.mark.parametrize(
    ("text", "sets", "dot_product"),
    [
        pytest.param(XEON, ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16"), True, id="xeon-with-vnni"),
        pytest.param(EPYC, ("avx2",), False, id="epyc-without-vnni"),
        pytest.param(ORIN, ("asimd", "asimddp"), True, id="jetson-orin"),
        pytest.param(RASPBERRY_PI_4, ("asimd",), False, id="arm-without-dot-product"),
        pytest.param(HYBRID, ("avx2", "avx_vnni"), True, id="what-every-core-has"),
        pytest.param("", (), False, id="nothing-to-read"),
    ],
)
def test_instruction_sets(
    here: Path, monkeypatch: pytest.MonkeyPatch, text: str, sets: tuple[str, ...], dot_product: bool
) -> None:
    (here / "cpuinfo").write_text(text)
    monkeypatch.setattr(target, "CPUINFO", here / "cpuinfo")
    assert target.instruction_sets() == sets
    assert target.has_int8_dot_product(sets) is dot_product


def test_clocks_of_the_moment_are_no_identity(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "CPUINFO", here / "cpuinfo")
    seen = set()
    for text in (XEON, XEON.replace("2699.998", "1200.000")):
        (here / "cpuinfo").write_text(text)
        seen.add((target.cpu_name(), target.instruction_sets()))
    assert seen == {
        ("Intel(R) Xeon(R) Platinum 8481C CPU @ 2.70GHz", ("avx2", "avx512f", "avx512_vnni", "amx_int8", "amx_bf16"))
    }


def test_a_cpu_without_a_name_is_its_architecture(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "CPUINFO", here / "none")
    assert target.cpu_name()
    assert target.instruction_sets() == ()


def test_jetson_linux_release(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(target, "L4T_RELEASE", here / "nv_tegra_release")
    assert target.l4t_release() is None
    (here / "nv_tegra_release").write_text(
        "# R36 (release), REVISION: 4.0, GCID: 37537400, BOARD: generic, EABI: aarch64\n"
    )
    assert target.l4t_release() == "36.4.0"


H100 = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "10.13.0", cuda="13.0", driver="580.65.06")


def test_differences_name_both_values() -> None:
    other = TargetFingerprint("NVIDIA H100 80GB HBM3", "9.0", "tensorrt", "8.6.1", cuda="13.0", driver="580.65.06")
    assert H100.differences(H100) == []
    assert H100.differences(other) == ["runtime_version was '10.13.0' and is '8.6.1'"]


def test_a_fingerprint_survives_its_file(here: Path) -> None:
    import json

    cpu = TargetFingerprint("EPYC", None, "onnxruntime", "1.32.0", instruction_sets=("avx2", "avx512f"))
    (here / "target.json").write_text(json.dumps(cpu.to_dict()))
    assert target.read_target(here / "target.json") == cpu


@pytest.mark.parametrize(
    "content", [None, "{", '{"device": "x", "colour": "red"}', "[]"], ids=["missing", "cut", "another-kind", "list"]
)
def test_a_target_that_cannot_be_read_names_its_stage(here: Path, content: str | None) -> None:
    if content is not None:
        (here / "target.json").write_text(content)
    with pytest.raises(StaleArtifact, match="dvc repro probe_target"):
        target.read_target(here / "target.json")
