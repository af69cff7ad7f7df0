"""The benchmarks run and print their rows; what they measure is for a quiet machine, so no time is asserted."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
ROWS = ("million", "immediate", "accounting")
PARTS = ("bar", "fairness", "long-run")


def test_the_benchmarks_print_their_rows_and_name_the_machine(tmp_path):
    chosen = [word for name in ROWS for word in ("--only", name)]
    record = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--quick", *chosen, "--json", str(record)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert lines[0].startswith("machine: processor ")
    table = lines[lines.index("") + 1 :]
    assert table[0].split()[:2] == ["row", "what"]
    assert {line.split()[0] for line in table[2 : table.index("")]} == set(ROWS)
    figures = json.loads(record.read_text(encoding="utf-8"))
    assert {row["name"] for row in figures["rows"]} == set(ROWS)
    assert all(value > 0 for row in figures["rows"] for value in row["values"])
    assert {row["target"] for row in figures["rows"]} == {None}


def test_an_unknown_row_is_refused_with_the_known_ones():
    done = subprocess.run(
        [sys.executable, "benchmarks/run.py", "--only", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "million" in done.stderr


def test_the_comparison_of_policies_prints_its_tables_and_asks_nothing_of_a_part_of_the_work(shared, tmp_path):
    record = tmp_path / "figures.json"
    done = subprocess.run(
        [sys.executable, "benchmarks/balance.py", "--quick", "--json", str(record)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    tables = done.stdout.split("### ")[1:]
    assert {title.partition(":")[0] for title in tables} == set(PARTS)
    for table in tables:
        rows = [line for line in table.splitlines() if line.startswith("|")]
        assert len(rows) > 2
        assert len({row.count("|") for row in rows}) == 1
    assert not any(word in done.stdout for word in (" met |", "MISSED"))
    figures = json.loads(record.read_text(encoding="utf-8"))
    assert [table["title"] for table in figures["tables"]] == [title.splitlines()[0] for title in tables]
    ratios = [row["ratio_mean"] for table in figures["tables"] for row in table["rows"] if "ratio_mean" in row]
    assert ratios
    assert min(ratios) > 0


def test_the_comparison_of_policies_refuses_a_part_that_it_does_not_know():
    done = subprocess.run(
        [sys.executable, "benchmarks/balance.py", "--only", "nothing"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "long-run" in done.stderr


def test_known_idle_comes_back_from_the_log_of_each_engine_and_files_are_told_or_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"lbal_trace": 1}\n{"step": 0, "kv_tokens": [7, 9], "num_running": [1, 2]}\n')
    (tmp_path / "b.txt").write_text("nothing\n")
    done = subprocess.run(
        [sys.executable, "benchmarks/known_idle.py", "--steps", "600", "--ranks", "3", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in done.stdout.splitlines() if line.startswith("| ")]
    engines = rows[1:7]
    assert [row[0].split(",")[0] for row in engines] == ["SGLang"] * 2 + ["vLLM"] + ["TensorRT-LLM"] * 2 + ["Dynamo"]
    assert all(abs(float(row[4]) - float(row[5])) <= float(row[7]) for row in engines)
    assert rows[8][:3] == ["a.jsonl", "2", "native"]
    assert rows[9][:3] == ["b.txt", "1", "refused"]
