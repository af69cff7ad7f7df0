"""The published schema of results: every command is held to it, and nothing is written that it does not describe."""

from __future__ import annotations

import copy
import json
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest

from lbal.analyzers.result.result import SCHEMA
from lbal.cli.main import run

SAMPLES = Path(__file__).resolve().parents[3] / "sample_traces"
PUBLISHED = json.loads(files("lbal.analyzers.result").joinpath("result.schema.json").read_text(encoding="utf-8"))
STEPS, REQUESTS, TINY = (
    str(SAMPLES / name) for name in ("skewed_8_ranks.jsonl", "requests_2000.jsonl", "two_ranks_three_steps.jsonl")
)
JSQ = ["--policy", "jsq"]


def closed(node):
    """The schema without room for additions: a key that it does not describe is a mistake."""
    if isinstance(node, list):
        return [closed(item) for item in node]
    if not isinstance(node, dict):
        return node
    node = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and node.get("type") == "object":
        node.setdefault("additionalProperties", False)
    return node


VALIDATOR = jsonschema.Draft202012Validator(closed(PUBLISHED))
OPEN = jsonschema.Draft202012Validator(PUBLISHED)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("results")
    names = {}
    for name, policies in (("base", ["jsq", "jsq-kv"]), ("head", ["jsq", "random"])):
        names[name] = str(folder / f"{name}.json")
        options = [part for policy in policies for part in ("--policy", policy)]
        assert run(["replay", STEPS, *options, "-o", names[name]]) == 0
    return names


COMMANDS = {
    "analyze steps": ["analyze", STEPS],
    "analyze with bands and costs": ["analyze", STEPS, "--bands", "--costs", "pue=1.2,electricity=0.1,carbon=300"],
    "analyze requests": ["analyze", REQUESTS],
    "replay": ["replay", STEPS, "--policy", "recorded", *JSQ, "--bands", "--step-model", STEPS],
    "replay a backlog": ["replay", STEPS, *JSQ, "--arrivals", "backlog", "--window", "steady"],
    "replay with repeats": ["replay", TINY, *JSQ, "--policy", "random", "--repeat", "2", "--jobs", "1"],
    "replay with a solver": ["replay", TINY, "--policy", "bf-io:method=exact"],
    "advise": ["advise", TINY, "--engine", "vllm", "--step-model", "C=0.02,a=2e-8,b=2e-4,p=1e-4"],
    "calibrate": ["calibrate", STEPS],
    "validate": ["validate", STEPS, REQUESTS],
    "list policies": ["list", "policies"],
    "list prefill-rules": ["list", "prefill-rules"],
    "list formats": ["list", "formats"],
    "list metrics": ["list", "metrics"],
    "list step-models": ["list", "step-models"],
    "list power-models": ["list", "power-models"],
    "list reports": ["list", "reports"],
    "render": ["render", "{base}"],
    "compare": ["compare", "{base}", "{head}"],
    "compare the runs of one": ["compare", "{base}"],
    "check": ["check", "{head}", "--baseline", "{base}", "--fail-on", "barrier_idle_fraction:+5%", "--exit-zero"],
    "check a threshold": ["check", "{head}", "--warn-on", "ttft_ms_p99<=60", "--run", "jsq"],
}


@pytest.mark.parametrize("name", COMMANDS)
def test_the_result_of_every_command_fits_the_published_schema(name, stored, capsys):
    arguments = [part.format(**stored) if part.startswith("{") else part for part in COMMANDS[name]]
    assert run([*arguments, "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    errors = [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(record)]
    assert errors == []
    OPEN.validate(record)


LOGS = {
    "counts alone": ({}, {"num_running": [8, 0]}),
    "tokens alone": ({"kv_capacity": 500}, {"kv_tokens": [300, 100], "step_ms": 40}),
    "samples": ({"resolution": "sampled"}, {"kv_tokens": [300, 100], "num_running": [2, 2], "start_ms": 0}),
    "some of the ranks": ({"dp_size": 4}, {"num_running": [None, None, 3, 1], "kv_tokens": [None, None, 30, 10]}),
    "steps without work": ({}, {"num_running": [0, 0], "kv_tokens": [0, 0]}),
}


@pytest.mark.parametrize("name", LOGS)
def test_what_a_trace_does_not_tell_fits_the_published_schema(name, tmp_path, capsys):
    header, step = LOGS[name]
    path = tmp_path / "t.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in ({"lbal_trace": 1, **header}, {"step": 0, **step})))
    assert run(["analyze", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(record)] == []


def test_the_log_of_an_engine_fits_the_published_schema(tmp_path, capsys):
    path = tmp_path / "server.log"
    decode = "Decode batch, #running-req: {0}, #token: {0}00, token usage: 0.41, gen throughput (token/s): 40.0, #queue-req: 0"
    path.write_text(
        "".join(f"[2026-03-17 17:35:07 DP{rank} TP{rank}] {decode.format(rank + 1)}\n" for rank in range(2))
    )
    assert run(["analyze", str(path), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert [f"{error.json_path}: {error.message}" for error in VALIDATOR.iter_errors(record)] == []


def test_every_command_that_prints_a_result_is_held_to_the_schema():
    from lbal.cli.app import app
    from lbal.cli.commands.list import list_app

    names = [info.name or info.callback.__name__ for info in app.registered_commands]
    names += [
        f"list {(info.name or info.callback.__name__).replace('_', '-')}" for info in list_app.registered_commands
    ]
    tested = {" ".join(command[: 2 if command[0] == "list" else 1]) for command in COMMANDS.values()}
    assert set(names) - {"convert"} == tested


def test_the_schema_itself_is_valid_and_names_the_version_in_force():
    jsonschema.Draft202012Validator.check_schema(PUBLISHED)
    assert PUBLISHED["properties"]["schema"] == {"const": SCHEMA}
    assert PUBLISHED["title"] == SCHEMA


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (["schema"], "lbal.result/2"),
        (["runs"], {}),
        (["runs", 0, "metrics", "steps", "basis"], "guessed"),
        (["runs", 0, "metrics", "steps", "value"], "3"),
        (["runs", 0, "label"], None),
        (["runs", 0, "ranks", 0, "idle_fraction"], 1.5),
        (["runs", 0, "attribution", "luck"], 0.1),
        (["runs", 0, "series", "columns", "idle_ms"], 3),
        (["config", "window"], "most"),
        (["inputs", 0, "sha256"], "abc"),
    ],
)
def test_the_schema_refuses_what_no_result_may_be(stored, path, value):
    record = json.loads(Path(stored["base"]).read_text(encoding="utf-8"))
    assert OPEN.is_valid(record)
    broken = copy.deepcopy(record)
    part = broken
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    assert not OPEN.is_valid(broken)


def test_the_schema_leaves_room_for_additions(stored):
    record = json.loads(Path(stored["base"]).read_text(encoding="utf-8"))
    record["runs"][0]["something_new"] = record["something_new"] = {"x": 1}
    assert OPEN.is_valid(record)
    assert not VALIDATOR.is_valid(record)
