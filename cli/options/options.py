"""Options that several commands share, so that they read and work alike."""

from __future__ import annotations

from typing import Annotated

import typer

Inputs = Annotated[
    list[str],
    typer.Argument(
        metavar="TRACE…",
        help="File, files of one run's ranks, directory or glob; `-` for standard input; .gz and .zst accepted.",
    ),
]
RankRegex = Annotated[
    str | None,
    typer.Option("--rank-regex", metavar="REGEX", help="Rank of a log from its file name: one group, as pod-(\\d+)."),
]
RunIndex = Annotated[
    int | None,
    typer.Option("--run-index", metavar="N", help="Run of a log with restarts: 0 is the first (default: the longest)."),
]
RanksOfLog = Annotated[
    int | None,
    typer.Option(
        "--dp-size", metavar="G", min=1, max=1 << 16, help="DP ranks, where the trace does not tell how many there are."
    ),
]
KvCapacity = Annotated[
    int | None,
    typer.Option("--kv-capacity", metavar="TOKENS", min=1, help="KV tokens per rank, for logs that tell per cent."),
]
TimeUnitName = Annotated[
    str | None,
    typer.Option("--time-unit", metavar="UNIT", help="Unit of a request trace's times: s, ms, us or ns."),
]
ColumnNames = Annotated[
    str | None,
    typer.Option(
        "--columns",
        metavar="KEY=NAME,…",
        help="Columns of any CSV: arrival=…,prompt=…,output=…,unit=ms (and rank=…, id=…).",
    ),
]
FormatName = Annotated[
    str | None,
    typer.Option("--format", metavar="NAME", help="Format of the trace (default: told from its content)."),
]
Strict = Annotated[bool, typer.Option("--strict", help="Refuse times that run backwards instead of sorting them.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the result as JSON instead of tables.")]
Outputs = Annotated[
    list[str] | None,
    typer.Option("--output", "-o", metavar="FILE", help="Also write to a file, by suffix; can be repeated."),
]
Force = Annotated[bool, typer.Option("--force", help="Overwrite outputs that exist.")]
StepModel = Annotated[
    str | None,
    typer.Option(
        "--step-model",
        metavar="MODEL",
        help="Step-time preset, model.json, C=…,a=…,b=… (b_mean, p, e, C_x) in seconds, or a trace to calibrate on.",
    ),
]
RankSpeed = Annotated[
    list[str] | None,
    typer.Option("--rank-speed", metavar="RANK=SPEED", help="A slow rank: 3=0.8 takes 1/0.8 of the time; repeat."),
]
PowerModel = Annotated[
    str | None,
    typer.Option("--power-model", metavar="MODEL", help="Power preset or file.json (default: GPU of the step model)."),
]
GpusPerRank = Annotated[
    int | None, typer.Option("--gpus-per-rank", metavar="K", help="Accelerators per rank (default: of the step model).")
]
Bands = Annotated[
    bool, typer.Option("--bands", help="Show how far figures move within what is known of coefficients and power.")
]
CostList = Annotated[
    str | None,
    typer.Option(
        "--costs",
        metavar="KEY=VALUE,…",
        help="Add pue=, node= (watts per GPU), carbon= (g/kWh or country), electricity= (per kWh), gpu-hour= (price).",
    ),
]
WindowName = Annotated[
    str,
    typer.Option("--window", metavar="NAME", help="Steps that count: all, admissions or steady."),
]
AllowMismatch = Annotated[
    list[str] | None,
    typer.Option(
        "--allow-mismatch",
        metavar="NAME,…",
        help="Compare all the same where these differ: trace, dp_size, slots, model, schema.",
    ),
]
HeadRun = Annotated[str | None, typer.Option("--run", metavar="LABEL", help="Only this run (default: all).")]
BaseRun = Annotated[
    str | None,
    typer.Option("--base-run", metavar="LABEL", help="Run of the base (default: the one of the same label)."),
]
StepsShown = Annotated[
    str | None,
    typer.Option("--steps", metavar="FROM:TO", help="Steps of a .perfetto.json trace, as 1000:1200 (without 1200)."),
]
