"""Measures how evenly policies balance and at what waits, and prints Markdown tables: `python benchmarks/balance.py`.

Nothing here is a time: the figures are the same on every machine. docs/balance.md says how to read them.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

from comparisons import RELEASED, Table, bar, fairness, say
from long_run import long_run

PARTS = {"bar": bar, "fairness": fairness, "long-run": long_run}


def main() -> None:
    """Measure, and print each table as it is there."""
    options = _options()
    if not RELEASED.is_file():
        raise SystemExit(f"{RELEASED}: it is not there: the comparisons need shared/ beside the checkout")
    if options.quick:
        print("quick: a part of the work, so nothing is asked\n", flush=True)
    tables: list[Table] = []
    for name in options.only or PARTS:
        started = time.process_time()
        for table in PARTS[name](options.quick):
            print(_markdown(table), flush=True)
            tables.append(table)
        say(f"{name}: {time.process_time() - started:.0f} s of processor time")
    if options.json:
        record = {"quick": options.quick, "tables": [{"title": each.title, "rows": each.records} for each in tables]}
        Path(options.json).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", action="append", choices=PARTS, metavar="NAME", help=f"one of {', '.join(PARTS)}")
    parser.add_argument("--json", metavar="FILE", help="write all figures there")
    parser.add_argument("--quick", action="store_true", help="a part of the work: whether it runs at all")
    return parser.parse_args()


def _markdown(table: Table) -> str:
    lines = [table.columns, ["---"] * len(table.columns), *table.rows]
    body = "".join(f"| {' | '.join(line)} |\n" for line in lines)
    notes = "".join(f"- {note}\n" for note in table.notes)
    return f"### {table.title}\n\n{body}" + (f"\n{notes}" if notes else "")


if __name__ == "__main__":
    main()
