"""Writes the sample traces of this folder; the same bytes every time and on every machine.

    python sample_traces/generate.py [FOLDER]

Randomness is a fixed seed and uniform numbers only, turned into the other distributions here: the streams that
NumPy draws for those may change from version to version, and uniform ones do not. What each file is for, and the
hand calculation for the smallest, stands in `README.md` beside this file.
"""

from __future__ import annotations

import json
import math
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

import numpy as np

SEED = 20260117
LONG_PROMPT_TENANTS = (2, 11)
Record = dict[str, Any]


class Draws:
    """Random numbers from one stream of uniform ones."""

    def __init__(self, stream: int) -> None:
        self._uniform = np.random.Generator(np.random.PCG64([SEED, stream]))

    def uniform(self) -> float:
        """In (0, 1)."""
        return (1 + float(self._uniform.random()) * (2**53 - 2)) / 2**53

    def exponential(self, mean: float) -> float:
        """Exponential."""
        return -mean * math.log(self.uniform())

    def normal(self) -> float:
        """Standard normal."""
        return NormalDist().inv_cdf(self.uniform())

    def length(self, median: float, sigma: float, tail_share: float, tail_from: float, most: int) -> int:
        """A length in tokens: lognormal, or in `tail_share` of cases Pareto with exponent 1.3; at most `most`."""
        if self.uniform() < tail_share:
            value = tail_from * self.uniform() ** (-1 / 1.3)
        else:
            value = median * math.exp(sigma * self.normal())
        return min(max(round(value), 1), most)


def two_ranks_three_steps() -> Iterator[Record]:
    """Two ranks, three steps: small enough to check every figure by hand."""
    yield {"lbal_trace": 1, "engine": "by hand", "dp_size": 2, "max_num_seqs": 2}
    requests = (
        ("A", 0, 200, 1, 0, 0, 16),
        ("B", 0, 200, 2, 0, 0, 32),
        ("C", 6, 199, 1, 0, 16, 32),
        ("E", 6, 600, 1, 0, 32, 49),
        ("D", 15, 200, 1, 1, 16, 32),
        ("F", 30, 200, 1, 1, 32, 49),
    )
    fields = ("request_id", "arrival_ms", "prompt_tokens", "output_tokens", "rank", "admitted_ms", "finish_ms")
    yield from (dict(zip(fields, request, strict=True)) for request in requests)
    steps = (
        (0, 0, 16, [400, 0], [2, 0], [6, 0]),
        (1, 16, 16, [400, 200], [2, 1], [6, 3]),
        (2, 32, 17, [600, 200], [1, 1], [7, 3]),
    )
    fields = ("step", "start_ms", "step_ms", "kv_tokens", "num_running", "compute_ms")
    yield from (dict(zip(fields, step, strict=True)) for step in steps)


def requests_2000() -> Iterator[Record]:
    """Two thousand requests in bursts, with heavy-tailed lengths."""
    draws = Draws(stream=1)
    yield {"lbal_trace": 1}
    now_ms, busy = 0.0, False
    for number in range(2000):
        if draws.uniform() < 1 / 12:
            busy = not busy
        now_ms += draws.exponential(mean=25.0 if busy else 90.0)
        yield {
            "request_id": number,
            "arrival_ms": round(now_ms, 3),
            "prompt_tokens": draws.length(2_000, 1.0, tail_share=0.03, tail_from=10_000, most=40_000),
            "output_tokens": draws.length(290, 0.7, tail_share=0.02, tail_from=800, most=1_500),
        }


@dataclass
class Served:
    """A request of the skewed trace while it is served."""

    record: Record
    generated: int = 0


class Ranks:
    """Eight ranks that meet at a barrier, each with its own queue: tenants are pinned to ranks.

    A step takes 20 ms and the longest rank time, 40 ns per KV token and 150 us per request; rank 5 takes 1.2 times
    as long for its work as the others. Every measured time has noise of 1%.
    """

    count, slots = 8, 16
    shared_ms, per_token_ms, per_request_ms = 20.0, 40e-6, 0.15
    slow_rank, slow_factor = 5, 1.2

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.queues: list[deque[Served]] = [deque() for _ in range(self.count)]
        self.active: list[list[Served]] = [[] for _ in range(self.count)]

    def noisy(self, time_ms: float) -> float:
        """A measurement of a time, to the microsecond."""
        return round(time_ms * (1 + 0.01 * self.draws.normal()), 3)

    def step(self, number: int, now_ms: float) -> Record:
        """Admit, work, and hand every active request a token."""
        for queue, active in zip(self.queues, self.active, strict=True):
            while queue and len(active) < self.slots:
                served = queue.popleft()
                served.record["admitted_ms"] = now_ms
                active.append(served)
        tokens = [sum(served.record["prompt_tokens"] + served.generated for served in active) for active in self.active]
        running = [len(active) for active in self.active]
        compute_ms = [
            self.noisy(self.rank_time_ms(*load)) for load in zip(range(self.count), tokens, running, strict=True)
        ]
        step_ms = round(self.noisy(self.shared_ms) + max(compute_ms), 3)
        end_ms = round(now_ms + step_ms, 3)
        for rank, active in enumerate(self.active):
            for served in active:
                served.generated += 1
                if served.generated == 1:
                    served.record["first_token_ms"] = end_ms
                if served.generated == served.record["output_tokens"]:
                    served.record["finish_ms"] = end_ms
            self.active[rank] = [served for served in active if "finish_ms" not in served.record]
        return {
            "step": number,
            "start_ms": now_ms,
            "step_ms": step_ms,
            "kv_tokens": tokens,
            "num_running": running,
            "compute_ms": compute_ms,
        }

    def rank_time_ms(self, rank: int, tokens: int, running: int) -> float:
        """What the rank's own work takes."""
        factor = self.slow_factor if rank == self.slow_rank else 1.0
        return factor * (self.per_token_ms * tokens + self.per_request_ms * running)


def skewed_8_ranks() -> Iterator[Record]:
    """A recorded run of eight ranks under a bad router, with one slow rank."""
    draws = Draws(stream=2)
    waiting = deque(_tenants_requests(draws))
    requests = list(waiting)
    ranks = Ranks(draws)
    steps: list[Record] = []
    now_ms = 0.0
    while waiting or any(ranks.queues) or any(ranks.active):
        while waiting and waiting[0]["arrival_ms"] <= now_ms:
            request = waiting.popleft()
            ranks.queues[request["rank"]].append(Served(request))
        steps.append(ranks.step(len(steps), now_ms))
        now_ms = round(now_ms + steps[-1]["step_ms"], 3)
    yield {"lbal_trace": 1, "engine": "tenant affinity", "dp_size": Ranks.count, "max_num_seqs": Ranks.slots}
    yield from requests
    yield from steps


def _tenants_requests(draws: Draws) -> Iterator[Record]:
    """Requests of 24 tenants, each pinned to the rank `tenant mod 8`; two tenants send long prompts."""
    now_ms = 0.0
    for number in range(400):
        tenant = int(24 * draws.uniform())
        now_ms += 0.0 if number < 80 else draws.exponential(mean=26.0)
        median = 30_000 if tenant in LONG_PROMPT_TENANTS else 5_000
        yield {
            "request_id": f"t{tenant:02}-{number:03}",
            "arrival_ms": round(now_ms, 3),
            "prompt_tokens": draws.length(median, 0.5, tail_share=0.0, tail_from=1, most=80_000),
            "output_tokens": draws.length(70, 0.5, tail_share=0.0, tail_from=1, most=200),
            "rank": tenant % Ranks.count,
        }


class DecodeServer:
    """An SGLang decode server of eight ranks behind a router that goes round robin.

    Every eighth request carries a long document, so all of them end up on one rank. A step takes 27 ms and the longest
    rank time, 22 ns per KV token and 220 us per request, with noise of 1%.
    """

    count, slots, capacity, steps = 8, 64, 1_000_000, 44
    shared_ms, per_token_ms, per_request_ms = 27.0, 22e-6, 0.22
    long_rank = 3

    def __init__(self, draws: Draws) -> None:
        self.draws = draws
        self.requests: list[list[tuple[int, int]]] = [[] for _ in range(self.count)]
        """Of each rank: KV tokens of a request, and how many it still generates."""
        self.arrived = 0
        for _ in range(28 * self.count):
            self.arrive(already=self.draws.uniform())

    def arrive(self, already: float = 0.0) -> None:
        """The next request, which has generated this share of its output, on the next rank."""
        rank = self.arrived % self.count
        prompt = self.draws.length(12_000 if rank == self.long_rank else 3_000, 0.5, 0.0, 1, most=60_000)
        output = self.draws.length(400, 0.6, 0.0, 1, most=2_000)
        done = min(int(already * output), output - 1)
        self.requests[rank].append((prompt + done, output - done))
        self.arrived += 1

    def step(self) -> tuple[list[int], list[int], float]:
        """KV tokens and running requests of each rank, and how long the step takes in ms."""
        tokens = [sum(held for held, _left in requests) for requests in self.requests]
        running = [len(requests) for requests in self.requests]
        slowest = max(
            self.per_token_ms * held + self.per_request_ms * count for held, count in zip(tokens, running, strict=True)
        )
        took_ms = (self.shared_ms + slowest) * (1 + 0.01 * self.draws.normal())
        self.requests = [[(held + 1, left - 1) for held, left in requests if left > 1] for requests in self.requests]
        return tokens, running, took_ms


def sglang_decode_8_ranks() -> Iterator[str]:
    """The log of a decode server: its start, lines of its passes by each rank, and what else such a log holds."""
    server = DecodeServer(Draws(stream=3))
    ranks = range(server.count)
    yield "[2026-08-22 09:59:00] server_args=ServerArgs(model_path='m', tp_size=8, dp_size=8, enable_dp_attention=True)"
    for rank in ranks:
        yield (
            f"[2026-08-22 09:59:40.000 DP{rank} TP{rank} EP{rank}] max_total_num_tokens={server.capacity}, "
            f"max_running_requests={server.slots}, context_len=131072"
        )
    now_ms = 0.0
    for number in range(server.steps):
        tokens, running, took_ms = server.step()
        now_ms += took_ms
        clock = f"10:00:{int(now_ms // 1000):02}.{int(now_ms % 1000):03}"
        for rank in ranks:
            yield (
                f"[2026-08-22 {clock} DP{rank} TP{rank} EP{rank}] Decode batch [{52_000 + number}], #running-req: "
                f"{running[rank]}, #token: {tokens[rank]}, token usage: {tokens[rank] / server.capacity:.2f}, "
                f"pre-allocated usage: 0.01, #prealloc-req: 0, #transfer-req: 0, #retracted-req: 0, cuda graph: True, "
                f"gen throughput (token/s): {running[rank] / took_ms * 1e3:.2f}, #queue-req: 0"
            )
        for _ in range(2 if number % 3 == 0 else 0):
            yield 'INFO:     10.0.0.7:51820 - "POST /v1/chat/completions HTTP/1.1" 200 OK'
            server.arrive()


def own_time_4_ranks() -> Iterator[Record]:
    """Four equal ranks that spend 5 ms of their own in every step, whatever they hold; rank 3 holds few requests."""
    draws = Draws(stream=4)
    yield {"lbal_trace": 1, "engine": "own time", "dp_size": 4, "max_num_seqs": 48}
    start_ms = 0.0
    for number in range(200):
        wave = 1 + 0.3 * math.sin(number / 20)
        running = [1 + int((6 if rank == 3 else 24) * wave * (0.75 + 0.5 * draws.uniform())) for rank in range(4)]
        tokens = [round(each * 2_000 * (0.8 + 0.4 * draws.uniform())) for each in running]
        work = [40e-6 * held + 0.15 * each for held, each in zip(tokens, running, strict=True)]
        compute_ms = [round(5.0 + each * (1 + 0.01 * draws.normal()), 3) for each in work]
        step_ms = round(15.0 + max(compute_ms), 3)
        yield {
            "step": number,
            "start_ms": start_ms,
            "step_ms": step_ms,
            "kv_tokens": tokens,
            "num_running": running,
            "compute_ms": compute_ms,
        }
        start_ms = round(start_ms + step_ms, 3)


LOGS = {"sglang_decode_8_ranks.log": sglang_decode_8_ranks}
TRACES = {
    "two_ranks_three_steps.jsonl": two_ranks_three_steps,
    "skewed_8_ranks.jsonl": skewed_8_ranks,
    "own_time_4_ranks.jsonl": own_time_4_ranks,
    "requests_2000.jsonl": requests_2000,
}


def write(folder: Path) -> None:
    """Write every sample trace into a folder."""
    for name, records in TRACES.items():
        (folder / name).write_text(lines(records()), encoding="utf-8", newline="\n")
    for name, log in LOGS.items():
        (folder / name).write_text("".join(f"{line}\n" for line in log()), encoding="utf-8", newline="\n")


def lines(records: Iterable[Record]) -> str:
    """Records as JSON Lines."""
    return "".join(json.dumps(record, separators=(",", ":")) + "\n" for record in records)


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent)
