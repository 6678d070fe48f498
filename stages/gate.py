"""gate: the last stage. Ends the pipeline if an engine that must pass did not, after all that reports has reported."""

from __future__ import annotations

from enginewright import manifest
from enginewright.errors import GateFailed
from enginewright.results.verdicts import Drift, Judgement
from enginewright.stage import Stage, script


@script
def gate(stage: Stage) -> None:
    """Write the verdict in any case; then fail, with a sentence for each engine that `accuracy.gated` names."""
    paths = stage.paths
    read = [paths.accuracy / "verdict.json", paths.drift / "report.json", paths.profile / "layers.csv", paths.pareto]
    for path in read:
        manifest.verify(path)
    judgement, drift = Judgement.read(read[0], "validate_accuracy"), Drift.read(read[1], "check_drift")
    reasons = [*judgement.reasons(), *(drift.reasons() if stage.params.check_drift.fail else ())]
    found = {"verdict": judgement.verdict, "passed": judgement.passed and not reasons, "reasons": reasons}
    stage.write_metrics(found)
    with stage.output(paths.gate, read) as temporary:
        manifest.write_json(temporary, found)
    print(f"gate: {judgement.says()}")
    if reasons:
        raise GateFailed("; ".join(reasons))


if __name__ == "__main__":
    gate()
