"""What stages find out, as typed records: the terminal, DVC's metrics and whoever computes with figures read these.

Each record goes to JSON and comes back: `from_json(to_json())` is the record itself.
"""

from enginewright.results.accuracy import (
    AccuracyResult as AccuracyResult,
    Difference as Difference,
    EngineAccuracy as EngineAccuracy,
    Gate as Gate,
    Held as Held,
    Verdict as Verdict,
)
from enginewright.results.builds import BuildOutcome as BuildOutcome, BuildState as BuildState
from enginewright.results.origin import Origin as Origin
from enginewright.results.pareto import ParetoResult as ParetoResult, ParetoRow as ParetoRow
from enginewright.results.record import Record as Record, RecordFault as RecordFault
from enginewright.results.speed import (
    EngineSpeed as EngineSpeed,
    LoadSettings as LoadSettings,
    LoadSpeed as LoadSpeed,
    SpeedResult as SpeedResult,
)
from enginewright.results.verdicts import (
    NOT_GATED as NOT_GATED,
    Drift as Drift,
    Judgement as Judgement,
    Outcome as Outcome,
)
