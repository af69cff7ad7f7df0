"""What stands around the lines of a server's log where people get them from: containers, journals, collectors, actors."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

Lines = Sequence[tuple[float, str]]
"""Lines of a log without their ends, each with its moment in seconds after 10:00."""
FIRST = datetime(2026, 8, 22, 10, tzinfo=UTC)


def moment(second: float) -> datetime:
    """The moment of a line."""
    return FIRST + timedelta(seconds=second)


def iso(second: float) -> str:
    """As Docker writes it, with nanoseconds."""
    return moment(second).strftime("%Y-%m-%dT%H:%M:%S.%f000Z")


def before(prefix: Callable[[float], str], after: str = "") -> Callable[[Lines], str]:
    """A wrapper that writes something before each line, and after it."""
    return lambda lines: "".join(f"{prefix(second)}{line}{after}\n" for second, line in lines)


def records(record: Callable[[float, str], object]) -> Callable[[Lines], str]:
    """A wrapper that makes each line a line of JSON."""
    return lambda lines: "".join(json.dumps(record(second, line)) + "\n" for second, line in lines)


def coloured(line: str) -> str:
    """As a terminal shows it: the beginning in one colour, the text in another."""
    head, blank, rest = line.partition(" ")
    return f"\x1b[1;36m{head}\x1b[0;0m{blank}\x1b[32m{rest}\x1b[0m"


def among_others(lines: Lines) -> str:
    """Lines of other programs between all lines."""
    others = (
        'INFO:     127.0.0.1:1 - "GET /health HTTP/1.1" 200 OK',
        "{}",
        "",
        "Traceback (most recent call last):",
        "}{",
    )
    return "".join(f"{others[index % len(others)]}\n{line}\n" for index, (_second, line) in enumerate(lines))


def progress(lines: Lines) -> str:
    """A progress bar that redraws itself between the lines and never ends its line."""
    bar = "Processed prompts:  73%|███████▎  | 52/71 [12:35<03:31, 11.1s/it]"
    return "".join(
        f"\r{bar}\r{bar}\x1b[A\r\n{line}\n" if index % 2 else f"{line}\n" for index, (_, line) in enumerate(lines)
    )


def journal_bytes(second: float, line: str) -> dict[str, object]:
    """journald's JSON of a line with colours: the text is a list of bytes."""
    micros = str(int(moment(second).timestamp() * 1e6))
    return {"__REALTIME_TIMESTAMP": micros, "_PID": "7", "MESSAGE": list(coloured(line).encode())}


SYSLOG = before(lambda second: f"<13>{moment(second):%b %d %H:%M:%S} node7 vllm[123]: ")
WRAPPERS: dict[str, Callable[[Lines], str]] = {
    "docker timestamps": before(lambda second: iso(second) + " "),
    "kubectl timestamps": before(lambda second: moment(second).strftime("%Y-%m-%dT%H:%M:%S.%f+00:00 ")),
    "containerd": before(lambda second: iso(second) + " stdout F "),
    "pod prefix": before(lambda second: "[pod/decode-0-5b7/engine] "),
    "pod prefix and timestamps": before(lambda second: f"[pod/decode-0-5b7/engine] {iso(second)} "),
    "journald short": before(lambda second: f"{moment(second):%b %d %H:%M:%S} node7 vllm[123]: "),
    "journald short-precise": before(lambda second: f"{moment(second):%b %d %H:%M:%S.%f} node7 vllm[123]: "),
    "journald short-iso": before(lambda second: f"{moment(second):%Y-%m-%dT%H:%M:%S}+0000 node7 vllm[123]: "),
    "journald short-unix": before(lambda second: f"{moment(second).timestamp():.6f} node7 vllm[123]: "),
    "journald JSON": records(
        lambda second, line: {"MESSAGE": line, "__REALTIME_TIMESTAMP": str(int(moment(second).timestamp() * 1e6))}
    ),
    "journald JSON of bytes": records(journal_bytes),
    "syslog RFC 3164": SYSLOG,
    "syslog RFC 5424": before(lambda second: f"<14>1 {moment(second):%Y-%m-%dT%H:%M:%S.%f}Z node7 vllm 123 - - "),
    "Ray actor": before(lambda second: "(ServeReplica:app:LLM pid=4821, ip=10.0.3.7) "),
    "Ray actor in colours": before(lambda second: "\x1b[36m(EngineActor pid=4821)\x1b[0m "),
    "compose": before(lambda second: "engine-1  | "),
    "mpirun tags": before(lambda second: "[1,0]<stdout>: "),
    "srun labels": before(lambda second: "0: "),
    "foreman": before(lambda second: f"{moment(second):%H:%M:%S} engine.1 | "),
    "colours": lambda lines: "".join(coloured(line) + "\n" for _second, line in lines),
    "CRLF": before(lambda second: "", after="\r"),
    "Docker JSON": records(lambda second, line: {"log": line + "\n", "stream": "stdout", "time": iso(second)}),
    "message": records(lambda second, line: {"@timestamp": iso(second), "message": line, "level": "info"}),
    "Fluent Bit": records(lambda second, line: {"date": moment(second).timestamp(), "log": line, "k": {"pod": "x"}}),
    "CloudWatch": records(lambda second, line: {"timestamp": int(moment(second).timestamp() * 1e3), "message": line}),
    "textPayload": records(lambda second, line: {"timestamp": iso(second), "textPayload": line, "labels": {"a": "b"}}),
    "jsonPayload": records(lambda second, line: {"timestamp": iso(second), "jsonPayload": {"message": line}}),
    "Elasticsearch hit": records(lambda second, line: {"_source": {"@timestamp": iso(second), "message": line}}),
    "other lines between": among_others,
    "progress bars": progress,
    "kubectl around JSON": lambda lines: "".join(
        f"{iso(second)} {json.dumps({'time': iso(second), 'message': line})}\n" for second, line in lines
    ),
    "colours in syslog": lambda lines: SYSLOG([(second, coloured(line)) for second, line in lines]),
    "colours in syslog as rsyslog keeps them": lambda lines: SYSLOG(
        [(second, coloured(line).replace("\x1b", "#033")) for second, line in lines]
    ),
    "colours in JSON": records(lambda second, line: {"time": iso(second), "log": coloured(line)}),
    "JSON in JSON": records(lambda second, line: {"time": iso(second), "log": json.dumps({"message": line})}),
    "JSON behind a pod, with CRLF": lambda lines: "".join(
        f"[pod/a-0/b] {json.dumps({'ts': iso(second), 'msg': line})}\r\n" for second, line in lines
    ),
}
