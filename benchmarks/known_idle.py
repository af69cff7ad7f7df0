"""Prints what the readers of logs give back, as Markdown: `python benchmarks/known_idle.py [FOLDER ...]`.

First the barrier idle of a run of which everything is known, against the idle that is recovered from the log that each
engine would have written of it. With folders, then a table of what was recognised of each file in them.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import workloads

import lbal
from lbal.analyzers.errors import InputError
from lbal.analyzers.trace.trace import Trace

sys.path.insert(0, str(workloads.ROOT / "tests" / "helpers"))
from engine_logs import RENDERERS
from engine_logs.known_run import KnownRun, made_up

LOGS = {
    "SGLang, every pass": "sglang 0.5.10, every pass",
    "SGLang, every 40th pass": "sglang 0.5.10, every 40th",
    "vLLM, iteration lines C": "vllm iterations C",
    "TensorRT-LLM, iteration log": "trtllm dummies",
    "TensorRT-LLM, /metrics": "trtllm metrics, by attentionDpRank",
    "Dynamo, forward-pass metrics": "dynamo",
}
SAMPLED_IDLE = 0.01
"""By how much the idle of samples may differ; of logs with every step, by the rounding of their digits."""


def main() -> None:
    options = _options()
    run = made_up(options.steps, options.ranks)
    model = f"C={run.model.shared_s:g},a={run.model.per_token_s:g},b={run.model.per_request_s:g}"
    print(f"{options.ranks} ranks, {options.steps:,} steps, made-up loads; step model {model}\n")
    with tempfile.TemporaryDirectory() as folder:
        _print(("log", "lines", "resolution", "steps read", "known", "recovered", "difference", "allowed"),
               known_against_recovered(run, Path(folder)))  # fmt: skip
    for place in options.folders:
        print(f"\n{place}\n")
        _print(("file", "lines", "read as", "resolution", "requests", "steps", "ranks seen of all", "left out"),
               recognised(place))  # fmt: skip


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER", help="say what is recognised of its files")
    parser.add_argument("--ranks", type=int, default=8, metavar="G")
    parser.add_argument("--steps", type=int, default=2_000, metavar="S")
    return parser.parse_args()


def known_against_recovered(run: KnownRun, folder: Path) -> Iterator[Sequence[object]]:
    """For each log its idle fraction as it is and as it is recovered. Ends the program where they are too far apart."""
    for name, renderer in LOGS.items():
        log = RENDERERS[renderer]
        trace = log.read(run, folder)
        known = run.idle_fraction()
        recovered = lbal.analyze(trace, step_model=run.model).runs[0].metrics["barrier_idle_fraction"].value
        allowed = log.idle_tolerance(run) if log.resolution == "step" else SAMPLED_IDLE
        lines = log.text(run).count("\n")
        yield (name, f"{lines:,}", trace.meta.resolution, f"{trace.num_steps:,}", f"{known:.6f}", f"{recovered:.6f}",
               f"{abs(recovered - known):.1e}", f"{allowed:.1e}")  # fmt: skip
        if abs(recovered - known) > allowed:
            raise SystemExit(f"{name}: {recovered} was recovered of {known}")


def recognised(folder: Path) -> Iterator[Sequence[object]]:
    """For each file what it is read as and what of it is used; a refusal in one line."""
    for path in sorted(folder.iterdir()):
        lines = f"{len(path.read_bytes().splitlines()):,}" if path.is_file() else ""
        try:
            yield (path.name, lines, *_told(lbal.read_trace(path)))
        except InputError as error:
            reason = str(error).removeprefix(f"{path}").lstrip(":0123456789 ")
            yield (path.name, lines, "refused", "", "", "", "", reason.replace("|", "\\|")[:300])


def _told(trace: Trace) -> Sequence[object]:
    meta = trace.meta
    seen = len(meta.ranks_seen) if meta.ranks_seen is not None else meta.dp_size
    left_out = "; ".join(f"{count:,} {reason}" for reason, count in meta.excluded.items())
    ranks = "" if meta.dp_size is None else f"{seen} of {meta.dp_size}"
    resolution = meta.resolution if trace.num_steps else ""
    return (meta.format, resolution, f"{trace.num_requests:,}", f"{trace.num_steps:,}", ranks, left_out or "nothing")


def _print(heads: Sequence[str], rows: Iterator[Sequence[object]]) -> None:
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}")
    for row in rows:
        print(f"| {' | '.join(map(str, row))} |", flush=True)


if __name__ == "__main__":
    main()
