"""The documents say what the program does: pasted output, tables and examples are compared with the real ones."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
from pathlib import Path

import pytest
from forked_commands import folder_of_lbal

from lbal.analyzers.metrics import METRICS
from lbal.analyzers.models.step_models import DEFAULT_STEP_MODEL, PAPER_RELEASE, step_model
from lbal.analyzers.result.report import REPORTS
from lbal.analyzers.trace.formats import FORMATS
from lbal.replay.policy.policy import POLICIES

ROOT = Path(__file__).resolve().parents[2]


def load(path: Path):
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


refresh = load(ROOT / "docs" / "refresh.py")
TEXTS = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in refresh.DOCUMENTS}
README = TEXTS["README.md"]
ALL_TEXT = "\n".join(TEXTS.values())


def lbal(*arguments, cwd, **environment):
    command = [folder_of_lbal() / "lbal", *arguments]
    return subprocess.run(command, cwd=cwd, env=os.environ | environment, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("name", TEXTS)
def test_commands_in_a_document_print_what_is_pasted_there_and_its_tables_are_those_of_the_code(name):
    assert refresh.refreshed(TEXTS[name], [folder_of_lbal()]) == TEXTS[name], (
        f"{name} is stale: run python docs/refresh.py"
    )


def test_the_readme_opens_with_one_sentence_and_the_two_commands():
    opening = README.split("\n## ")[0]
    blocks = re.findall(r"^```\w*\n(.*?)^```$", opening, re.MULTILINE | re.DOTALL)
    assert opening.startswith("# lbal\n\n`lbal` tells")
    assert len(blocks) == 2
    assert all(len(block.splitlines()) == 1 and block.startswith("python3 -m venv .venv && ") for block in blocks)
    assert "lbal replay sample_traces/" in blocks[0]
    assert blocks[1].endswith("-m pytest -n auto\n")


def test_the_check_runs_the_commands_of_the_readme_rather_than_copies_of_them():
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    assert "README.md" in script
    assert "pytest" not in re.sub(r"#.*", "", script)


@pytest.mark.parametrize("kind", ["policies", "formats", "metrics", "reports"])
def test_everything_in_a_registry_is_documented(kind):
    names = {
        "policies": POLICIES.names(),
        "formats": FORMATS.names(),
        "metrics": list(METRICS),
        "reports": [suffix for report in REPORTS.classes() for suffix in report.suffixes],
    }
    assert [name for name in names[kind] if f"`{name}`" not in ALL_TEXT] == []


def test_every_command_and_option_is_documented():
    helps = [lbal("--help", cwd=ROOT).stdout, lbal("list", "--help", cwd=ROOT).stdout]
    commands, lists = (re.findall(r"^  ([a-z][\w-]*)  ", text.split("Commands:")[1], re.MULTILINE) for text in helps)
    paths = [[name] for name in commands if name != "list"] + [["list", name] for name in lists]
    assert ["replay"] in paths
    assert ["list", "step-models"] in paths
    missing = []
    for path in paths:
        options = set(re.findall(r"(--[a-z][\w-]*)", lbal(*path, "--help", cwd=ROOT, COLUMNS="200").stdout))
        section = TEXTS["docs/commands.md"].partition(f"### `lbal {' '.join(path)}")[2].partition("\n### ")[0]
        missing += [(*path, option) for option in options - {"--help"} if f"`{option}" not in section]
    assert missing == []


def test_the_metric_table_has_the_unit_and_the_formula_of_every_metric():
    rows = TEXTS["docs/metrics.md"].splitlines()
    for metric in METRICS.values():
        assert f"| `{metric.name}` | {metric.unit} | {metric.better} | `{metric.formula}` |" in rows


def test_links_between_documents_lead_somewhere():
    for name, text in TEXTS.items():
        for target in re.findall(r"\]\(([^)]+)\)", text):
            if target.startswith("https://"):
                continue
            path, _, anchor = target.partition("#")
            file = (ROOT / name).parent / path if path else ROOT / name
            assert file.exists(), f"{name}: {target}"
            if anchor:
                headings = re.findall(r"^#+ (.*)$", file.read_text(encoding="utf-8"), re.MULTILINE)
                anchors = [re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings]
                assert anchor in anchors, f"{name}: {target}"


def test_files_and_folders_that_the_documents_name_are_there():
    code = re.compile(r"`((?:analyzers|replay|cli|tests|docs|benchmarks|sample_traces|lbal)/[\w/.-]*)`")
    named = [(name, path) for name, text in TEXTS.items() for path in code.findall(text)]
    assert len(named) > 40
    assert [(name, path) for name, path in named if not (ROOT / path).exists()] == []


def test_the_models_that_the_documents_explain_are_the_ones_in_force():
    assert f"`{DEFAULT_STEP_MODEL}`" in TEXTS["docs/replay.md"]
    assert f"--step-model {PAPER_RELEASE}" in README


def test_the_coefficients_and_shares_in_the_prose_of_the_readme_are_those_of_the_default_model():
    model = step_model(DEFAULT_STEP_MODEL, 64)
    c, a, b = model.shared_s * 1e3, model.per_token_s * 1e9, model.per_request_s * 1e6
    assert f"C = {c:.1f} ms, a = {a:.1f} ns, b = {b:.0f} us" in README
    rows = dict(re.findall(r"^\| (64 \| [\d,]+) \| (.*) \|$", refresh.kv_share_table(), re.MULTILINE))
    short, long = (rows[f"64 | {length}"].split(" | ") for length in ("1,024", "16,384"))
    assert f"KV is {short[1]} of such a step at 64 requests of 1k tokens each, and {long[1]} at 16k" in README
    assert f"put {short[3]} of the step into KV" in README


def test_what_is_not_modelled_is_said_in_the_readme():
    limits = README.partition("\n## Limits\n")[2]
    for word in ("Prefill is not modelled", "reservation", "live state"):
        assert word in limits
    assert "Nobody has validated it end to end" in README


@pytest.fixture
def plugin(tmp_path):
    """A folder with the example format and policy installed as a package of somebody else."""
    for name in ("key_value.py", "least_work.py", "small_log.py"):
        (tmp_path / name).write_bytes((ROOT / "docs" / "examples" / name).read_bytes())
    info = tmp_path / "example-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(
        "[lbal.analyzers.formats]\nkey-value = key_value:KeyValueFormat\n"
        "small-log = small_log:SmallLogReader\n"
        "[lbal.replay.policies]\nleast-work = least_work:LeastWork\n"
    )
    return tmp_path


def test_the_example_format_is_found_through_its_entry_point_and_reads_its_log(plugin):
    log = plugin / "requests.log"
    log.write_text("t=12.25 in=812 out=143\nt=12.75 in=90 out=0\nt=13.25 in=40 out=7\n")
    done = lbal("validate", "requests.log", cwd=plugin, PYTHONPATH=str(plugin))
    assert done.stdout == "requests.log: valid key-value trace with 2 requests\n"
    assert "1 failed request" in done.stderr


def test_the_example_format_names_the_line_that_it_cannot_read(plugin):
    (plugin / "requests.log").write_text("t=12.25 in=812 out=143\nt=12.75 in=many out=1\n")
    done = lbal("validate", "requests.log", cwd=plugin, PYTHONPATH=str(plugin))
    assert done.returncode == 2
    assert done.stderr.startswith("lbal: requests.log:2: 't=12.75 in=many out=1' is not a request")


def test_the_example_log_reader_joins_the_logs_of_ranks(plugin):
    noise = "starting the server\nKV cache holds 4096 tokens\n"
    for rank, tokens in ((0, 100), (1, 300)):
        lines = [f"{step}.5 [DP{rank}] step {step}: running=2 kv={tokens}\n" for step in range(3)]
        (plugin / f"dp{rank}.log").write_text(noise + "".join(lines) + "7.5 [DP0] step 4: runn\n")
    done = lbal("convert", "dp0.log", "dp1.log", "joined.jsonl", cwd=plugin, PYTHONPATH=str(plugin))
    assert "dp0.log 0; dp1.log 1" in done.stderr
    header, *steps = map(json.loads, (plugin / "joined.jsonl").read_text().splitlines())
    assert [step["kv_tokens"] for step in steps] == [[100, 300]] * 3
    assert (header["kv_capacity"], header["excluded"]) == (4096, {"lines that are cut or mangled": 2})


def test_the_example_policy_is_found_through_its_entry_point(plugin):
    done = lbal("list", "policies", "least-work", cwd=plugin, PYTHONPATH=str(plugin))
    assert "per_request=10000.0 (a number)" in done.stdout


def test_the_example_policy_in_plain_python_keeps_long_prompts_on_the_last_ranks(tmp_path):
    trace = ['{"lbal_trace": 1}']
    trace += [
        f'{{"request_id": {n}, "arrival_ms": {n}, "prompt_tokens": {9000 if n % 2 else 100}, "output_tokens": 5}}'
        for n in range(12)
    ]
    (tmp_path / "in.jsonl").write_text("\n".join(trace) + "\n")
    policy = f"{ROOT / 'docs' / 'examples' / 'by_length.py'}:ByLength"
    setting = ["--dp-size", "4", "--max-num-seqs", "8", "--policy", policy, "-o", "out.jsonl"]
    done = lbal("replay", "in.jsonl", *setting, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    lines = (tmp_path / "out.jsonl").read_text()
    placed = re.findall(r'"prompt_tokens":(\d+),"output_tokens":5,"rank":(\d)', lines)
    assert {rank for prompt, rank in placed if prompt == "9000"} == {"2", "3"}
    assert {rank for prompt, rank in placed if prompt == "100"} == {"0", "1"}


def test_a_parameter_that_makes_no_sense_to_the_example_policy_is_refused_with_its_own_words(tmp_path):
    policy = f"{ROOT / 'docs' / 'examples' / 'by_length.py'}:ByLength:long_ranks=0"
    trace = ROOT / "sample_traces" / "requests_2000.jsonl"
    done = lbal("replay", str(trace), "--dp-size", "2", "--max-num-seqs", "8", "--policy", policy, cwd=tmp_path)
    assert done.returncode == 2
    assert "long_ranks: 0 is too small, expected at least 1" in done.stderr
