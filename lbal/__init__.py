"""Load-balance analyzer for data-parallel LLM decoding: what a notebook needs of lbal.

```
trace = lbal.read_trace("steps.jsonl")
lbal.analyze(trace)
lbal.replay(trace, dp_size=8, max_num_seqs=32, policies=["jsq", "bf-io:horizon=5"]).write("report.html")
```

Names are loaded when they are first used, so that `import lbal` and `lbal --help` take no time. The three folders of
code beside this file are links: they make `lbal.analyzers`, `lbal.replay` and `lbal.cli` packages of a bare checkout.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lbal.analyzers.analysis.calibrating import calibrate
    from lbal.analyzers.analysis.checking import check
    from lbal.analyzers.analysis.comparing import compare
    from lbal.analyzers.errors import InputError, LbalError, OutputError, PolicyError, UsageError
    from lbal.analyzers.metrics import METRICS
    from lbal.analyzers.result.reading import load_result
    from lbal.analyzers.result.result import Result, Run
    from lbal.analyzers.trace.formats import ReadOptions, read_trace
    from lbal.analyzers.trace.trace import Trace
    from lbal.analyzers.trace.writing.native import write_native, write_parquet
    from lbal.replay.advice.advising import advise
    from lbal.replay.experiment.analyzing import analyze
    from lbal.replay.experiment.replaying import replay
    from lbal.replay.policy.policy import POLICIES

_HOMES = {
    "METRICS": "lbal.analyzers.metrics",
    "POLICIES": "lbal.replay.policy.policy",
    "InputError": "lbal.analyzers.errors",
    "LbalError": "lbal.analyzers.errors",
    "OutputError": "lbal.analyzers.errors",
    "PolicyError": "lbal.analyzers.errors",
    "ReadOptions": "lbal.analyzers.trace.formats",
    "Result": "lbal.analyzers.result.result",
    "Run": "lbal.analyzers.result.result",
    "Trace": "lbal.analyzers.trace.trace",
    "UsageError": "lbal.analyzers.errors",
    "advise": "lbal.replay.advice.advising",
    "analyze": "lbal.replay.experiment.analyzing",
    "calibrate": "lbal.analyzers.analysis.calibrating",
    "check": "lbal.analyzers.analysis.checking",
    "compare": "lbal.analyzers.analysis.comparing",
    "load_result": "lbal.analyzers.result.reading",
    "read_trace": "lbal.analyzers.trace.formats",
    "replay": "lbal.replay",
    "write_native": "lbal.analyzers.trace.writing.native",
    "write_parquet": "lbal.analyzers.trace.writing.native",
}
"""Name -> the module that it is loaded from."""

__all__ = [
    "METRICS",
    "POLICIES",
    "InputError",
    "LbalError",
    "OutputError",
    "PolicyError",
    "ReadOptions",
    "Result",
    "Run",
    "Trace",
    "UsageError",
    "__version__",
    "advise",
    "analyze",
    "calibrate",
    "check",
    "compare",
    "load_result",
    "read_trace",
    "replay",
    "write_native",
    "write_parquet",
]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("lbal")
    if name not in _HOMES:
        raise AttributeError(f"module 'lbal' has no attribute {name!r}")
    home = importlib.import_module(_HOMES[name])
    # The package `replay` has the name of the call: it is both, a package that can be called.
    value = home if name == "replay" else getattr(home, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
