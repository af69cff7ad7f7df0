"""Rewrites what the documents take from the code, so that it stays true.

    python docs/refresh.py             rewrite README.md, CONTRIBUTING.md and docs/*.md in place
    python docs/refresh.py --check     only say which of them are stale (exit code 1)
    python docs/refresh.py docs/ci.md  only these, with or without --check; docs/fidelity.md also as `fidelity`

Three things are rewritten: the output of the commands in ```console blocks, which are run anew (the blocks of one
document in one scratch folder that has `sample_traces` and `docs` in it); tables between `<!-- table: NAME -->` and
`<!-- end -->`, which are made from the registries; and the code block after `<!-- file: PATH -->`. The tests call
`refreshed` too. Needs an environment with lbal installed.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import subprocess
import sys
import tempfile
import typing
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]

CONSOLE = re.compile(r"(?<=^```console\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)
TABLE = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(?=<!-- end -->)", re.DOTALL)
FILE = re.compile(r"(<!-- file: (\S+) -->\n+```\w+\n).*?(?=^```$)", re.MULTILINE | re.DOTALL)


ENVIRONMENT = Path(sys.executable).parent
"""The folder of the programs `lbal` and `python`."""


def refreshed(text: str, programs: Sequence[Path] = ()) -> str:
    """A document as it should be. Commands find their programs in those folders first, then in this environment."""
    text = TABLE.sub(lambda found: found[1] + TABLES[found[2]](), text)
    text = FILE.sub(lambda found: found[1] + (ROOT / found[2]).read_text(encoding="utf-8"), text)
    with tempfile.TemporaryDirectory() as scratch:
        for name in ("sample_traces", "docs"):
            (Path(scratch) / name).symlink_to(ROOT / name)
        return CONSOLE.sub(lambda found: _with_output(found[0], scratch, programs), text)


def commands(text: str) -> list[str]:
    """The commands in the console blocks of a document."""
    return [command for block in CONSOLE.findall(text) for command in _commands(block)]


def _commands(block: str) -> list[str]:
    """The lines after `$ `, each with the lines after `> ` that continue it."""
    found: list[str] = []
    for line in block.splitlines():
        if line.startswith("$ "):
            found.append(line[2:])
        elif line.startswith("> ") and found:
            found[-1] += "\n" + line[2:]
    return found


def _with_output(block: str, folder: str, programs: Sequence[Path]) -> str:
    parts = []
    for command in _commands(block):
        shown = "$ " + command.replace("\n", "\n> ")
        parts.append(f"{shown}\n{_output(command, folder, programs)}")
    return "".join(parts)


def _output(command: str, folder: str, programs: Sequence[Path]) -> str:
    """What a command prints, stderr first where it comes first. A command that fails is a mistake in the document."""
    environment = {key: value for key, value in os.environ.items() if key not in ("COLUMNS", "FORCE_COLOR")}
    environment |= {
        "PATH": os.pathsep.join([*map(str, programs), str(ENVIRONMENT), os.environ["PATH"]]),
        "LC_ALL": "C.UTF-8",
        "PYTHONUTF8": "1",
    }
    done = subprocess.run(
        ["bash", "-o", "pipefail", "-c", command],
        cwd=folder,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"exit code {done.returncode} from: {command}\n{done.stdout}")
    return done.stdout


def table_of(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |\n" for line in lines)


def metric_table() -> str:
    """Every metric."""
    from lbal.analyzers.metrics import METRICS

    rows = [(f"`{item.name}`", item.unit, item.better, f"`{item.formula}`") for item in METRICS.values()]
    return table_of(("name", "unit", "better", "formula"), rows)


def policy_table() -> str:
    """Every policy."""
    from lbal.replay.policy.parametrised import description, parameter_types, type_text
    from lbal.replay.policy.policy import POLICIES

    def parameters(cls: Any) -> str:
        known = parameter_types(cls).items()
        return ", ".join(f"`{name}={_default(default)}` ({type_text(kind)})" for name, (kind, default) in known)

    rows = [
        (f"`{cls.name}`", description(cls), cls.looks_at, " or ".join(cls.bindings), parameters(cls), cls.source)
        for cls in POLICIES.classes()
    ]
    return table_of(("name", "rule", "looks at", "binding", "parameters", "source"), rows)


def prefill_table() -> str:
    """Every prefill rule."""
    from lbal.replay.policy.parametrised import description, parameter_types, type_text
    from lbal.replay.prefill.rule import PREFILLS

    rows = []
    for cls in PREFILLS.classes():
        known = parameter_types(cls).items()
        given = ", ".join(f"`{name}={_default(default)}` ({type_text(kind)})" for name, (kind, default) in known)
        rows.append((f"`{cls.name}`", description(cls), given, cls.padding, cls.left_out, cls.source))
    return table_of(("name", "rule", "parameters", "padding", "left out", "source"), rows)


def settings_table() -> str:
    """Every setting that advice tries, and the flag of the slots, by engine."""
    from lbal.replay.advice.engines import ENGINES

    rows = []
    for engine in ENGINES.values():
        for setting in engine.settings:
            spec = ",".join(f"{name}={_default(value)}" for name, value in setting.rule.items())
            what = f"`--prefill {engine.name}:{spec}`" if spec else f"`--policy {setting.policy}`"
            rows.append((engine.title, f"`{setting.flags}`", what))
        rows.append((engine.title, f"`{engine.slots_flag}`", "half the slots, twice the slots"))
    return table_of(("engine", "flags", "what is replayed"), rows)


def _default(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def format_table() -> str:
    """Every format."""
    from lbal.analyzers.trace.formats import FORMATS

    rows = [
        (f"`{cls.name}`", cls.content, cls.time_unit, (cls.__doc__ or "").strip().splitlines()[0])
        for cls in FORMATS.classes()
    ]
    return table_of(("name", "content", "unit of time", "what it is"), rows)


def report_table() -> str:
    """Every report."""
    from lbal.analyzers.result.report import REPORTS

    rows = [(" ".join(f"`{suffix}`" for suffix in cls.suffixes), cls.content) for cls in REPORTS.classes()]
    return table_of(("suffix", "content"), rows)


def command_reference() -> str:
    """Every command with its arguments and options, from the signatures of the command functions."""
    from lbal.cli.app import app
    from lbal.cli.commands.list import list_app

    named = [(f"lbal {_name(info)}", info.callback) for info in app.registered_commands]
    named += [(f"lbal list {_name(info)}", info.callback) for info in list_app.registered_commands]
    return "".join(_command_section(name, callback) for name, callback in named)


def _name(info: Any) -> str:
    return str(info.name or info.callback.__name__).replace("_", "-")


def _command_section(name: str, callback: Any) -> str:
    described = " ".join(inspect.cleandoc(callback.__doc__).split())
    arguments, options = [], []
    for kind, info in _parameters(callback):
        names = [text for text in (info.default, *(info.param_decls or ())) if isinstance(text, str)]
        if not names:
            arguments.append((info.metavar, info.help))
            continue
        is_switch = kind is bool or bool in typing.get_args(kind)
        value = f" {info.metavar}" if info.metavar else "" if is_switch else " N"
        spelled = [each for text in names for each in text.split("/")]  # as --padding/--no-padding
        options.append((", ".join(f"`{each}{value}`" for each in spelled), info.help))
    usage = " ".join([name, *(metavar for metavar, _help in arguments), "[OPTIONS]"])
    rows = [(f"`{metavar}`", text) for metavar, text in arguments] + options
    return f"\n### `{usage}`\n\n{described}\n\n{table_of(('argument or option', 'what it does'), rows)}"


def _parameters(callback: Any) -> list[tuple[Any, Any]]:
    """(type, what the command line says of it) of each parameter."""
    hints = typing.get_type_hints(callback, include_extras=True)
    return [(hint.__origin__, hint.__metadata__[0]) for name, hint in hints.items() if name != "return"]


def kv_share_table() -> str:
    """The share of a step that is KV, with equally loaded ranks, for the default model and the released one."""
    from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL, PAPER_RELEASE, step_model

    models = [step_model(name, 64) for name in (DEFAULT_STEP_MODEL, PAPER_RELEASE)]
    rows = []
    for running, length in ((16, 4096), (64, 1024), (64, 4096), (64, 16384), (32, 32768)):
        row = [running, f"{length:,}"]
        for model in models:
            kv_s = model.per_token_s * running * length
            rest_s = model.shared_s + (model.per_request_s + model.per_mean_request_s) * running
            row += [f"{(kv_s + rest_s) * 1e3:.1f}", f"{kv_s / (kv_s + rest_s):.0%}"]
        rows.append(row)
    columns = ["requests per rank", "tokens each"]
    parts = [f"{name}, {part}" for name in ("default", f"`{PAPER_RELEASE}`") for part in ("ms per step", "of it KV")]
    return table_of([*columns, *parts], rows)


def power_table() -> str:
    """Every power model, in watts per accelerator."""
    from lbal.analyzers.models.power_models import power_presets

    rows = []
    for power in power_presets().values():
        record = power.as_dict()
        states = [record.get(f"{state}_watts") for state in ("busy", "wait")]
        levels = [" / ".join(f"{watts:g}" for watts in state.values()) if state else "by load" for state in states]
        half = f"{record['n_half']:g}" if record.get("n_half") else ""
        rows.append((f"`{record['name']}`", *levels, f"{record['idle_watts']:g}", half, record["confidence"]))
    return table_of(("name", "busy", "wait", "idle", "h", "confidence"), rows)


def fidelity_tables() -> str:
    """Published figures beside lbal's own, one table a source."""
    sys.path.insert(0, str(ROOT / "docs"))
    from published import COMPARISONS

    return "\n".join(_comparison(each) for each in COMPARISONS)


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value >= 1_000 else f"{value:.4g}"


def _comparison(told: Any) -> str:
    rows = []
    for row in told.rows:
        ours = ("n/a", "n/a") if row.found is None else (_figure(row.found()), f"{row.error():+.1%}")
        other = "; ".join(f"{name}: {_figure(found())}" for name, found in row.other)
        rows.append((row.figure, _figure(row.value()), *ours, row.kind, row.reason or other))
    table = table_of(("figure", "published", "lbal", "error", "class", "with other assumptions"), rows)
    facts = f"Source: {told.source}.\n- Published and used: {told.facts}.\n- Assumed or fitted: {told.assumed}."
    return f"\n## {told.title}\n\n{facts}\n\n{table}\n{told.verdict}\n"


def folder_table() -> str:
    """Every folder of code, with the first line of its package's docstring."""
    rows = []
    for top in ("analyzers", "replay", "cli"):
        for file in sorted((ROOT / top).rglob("__init__.py"), key=lambda path: path.parent):
            first_line = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
            rows.append((f"`{file.parent.relative_to(ROOT).as_posix()}/`", first_line))
    return table_of(("folder", "what is in it"), rows)


TABLES: dict[str, Callable[[], str]] = {
    "folders": folder_table,
    "metrics": metric_table,
    "policies": policy_table,
    "prefills": prefill_table,
    "settings": settings_table,
    "formats": format_table,
    "reports": report_table,
    "commands": command_reference,
    "kv-share": kv_share_table,
    "power-models": power_table,
    "fidelity": fidelity_tables,
}


def main() -> int:
    """Refresh every document, or those that are named, or check that they are fresh."""
    only_check = "--check" in sys.argv[1:]
    named = [_document(name) for name in sys.argv[1:] if name != "--check"]
    for name in named:
        if name not in DOCUMENTS:
            print(f"{name} is none of the documents, expected README.md, CONTRIBUTING.md or docs/*.md", file=sys.stderr)
            return 2
    stale = []
    for document in named or DOCUMENTS:
        text = document.read_text(encoding="utf-8")
        fresh = refreshed(text)
        if fresh != text:
            stale.append(document.relative_to(ROOT).as_posix())
            if not only_check:
                document.write_text(fresh, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'is stale, run python docs/refresh.py' if only_check else 'refreshed'}")
    return 1 if only_check and stale else 0


def _document(name: str) -> Path:
    """The document of that path, or of that name in docs."""
    by_name = ROOT / "docs" / f"{name}.md"
    return by_name if by_name.is_file() else Path(name).resolve()


if __name__ == "__main__":
    sys.exit(main())
