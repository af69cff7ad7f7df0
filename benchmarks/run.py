"""Measures the engine, the readers and the commands, and prints the table: `python benchmarks/run.py`.

Figures are medians [smallest..largest] of several runs. Peak memory is that of the whole process. A reference of
`900 x` says that the plain Python of the tests takes 900 times as long for the same work in the same run.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from pathlib import Path

from measuring import Row, machine
from rows import ROWS, Bench

COLUMNS = ("row", "what", "measured: median [min..max]", "target", "", "reference", "peak memory", "runs")


def main() -> None:
    """Measure, and print as it goes: progress on stderr, the table on stdout."""
    options = _options()
    print(f"machine: {', '.join(f'{key} {value}' for key, value in machine().items())}", flush=True)
    if options.quick:
        print("quick: a hundredth of the work, so no targets", flush=True)
    print(f"load average before: {_load()}", flush=True)
    found: list[Row] = []
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(1 if options.quick else options.repeat, options.quick, Path(folder), notes, options.log_lines)
        for name in options.only or ROWS:
            print(f"measuring {name} …", file=sys.stderr, flush=True)
            found += ROWS[name](bench)
    table = [row for row in found if row.name != "curve"]
    curve = [row for row in found if row.name == "curve"]
    if table:
        print(f"\n{_text(table)}")
    if notes:
        print("\n" + "\n".join(notes))
    if curve:
        print(f"\nscaling curve, G=16, B=72, backlog\n{_text(curve)}")
    print(f"\nload average after: {_load()} (the benchmarks themselves keep one to two cores busy)")
    if options.json:
        record = {"machine": machine(), "quick": options.quick, "rows": [row.record() for row in found], "notes": notes}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=ROWS, metavar="NAME", help=f"one of {', '.join(ROWS)}")
    parser.add_argument("--repeat", type=int, default=5, metavar="N", help="runs of each (fewer where one takes long)")
    parser.add_argument("--log-lines", type=int, default=200_000, metavar="N", help="lines of the logs of engines")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="a hundredth of the work, once: whether it runs at all")
    return parser.parse_args()


def _load() -> str:
    return ", ".join(f"{value:.2f}" for value in os.getloadavg())


def _text(rows: list[Row]) -> str:
    """The rows under their headings; columns that none of them fills are left out."""
    cells = [COLUMNS, *(_cells(row) for row in rows)]
    filled = [index for index in range(len(COLUMNS)) if any(line[index] for line in cells[1:])]
    width = {index: max(len(line[index]) for line in cells) for index in filled}
    lines = ["  ".join(line[index].ljust(width[index]) for index in filled).rstrip() for line in cells]
    return "\n".join([lines[0], "-" * max(map(len, lines)), *lines[1:]])


def _cells(row: Row) -> tuple[str, ...]:
    spread = f" [{_number(min(row.values))}..{_number(max(row.values))}]" if len(row.values) > 1 else ""
    target = "" if row.target is None else f"{'>=' if row.at_least else '<='} {row.target:,.6g} {row.unit}"
    memory = "" if row.peak_mb is None else f"{row.peak_mb / 1e3:.2f} GB"
    if row.target_mb is not None:
        memory += f" (<= {row.target_mb / 1e3:g} GB)"
    return (
        row.name,
        row.what,
        f"{_number(row.median)}{spread} {row.unit}",
        target,
        {True: "ok", False: "MISSED", None: ""}[row.within],
        "" if row.reference is None else f"{row.reference:,.0f} x",
        memory,
        str(len(row.values)),
    )


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.3g}"


if __name__ == "__main__":
    main()
