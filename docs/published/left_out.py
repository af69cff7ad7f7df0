"""aisimulate's pull request 98: how wrong a simulator is about TPOT that leaves the engine's prefill rule out."""

from __future__ import annotations

from functools import cache, partial

import numpy as np

from lbal.analyzers.barrier.step_time import StepTimeModel
from lbal.replay.scenario.cluster import Conditions
from published.colocated import served
from published.lengths import workload
from published.prefill_cadence import A_S, B_S, C_S, GRAPH_LOSS_S, P_S
from published.row import Comparison, Row

PROMPT_TOKENS, OUTPUT_TOKENS, INTERVAL, ROUNDS = 8_192, 1_024, 4, 8
LEAST = 0.8
"""The shortest lengths, as a share of the longest."""


@cache
def tpot_ms(ranks: int, in_flight: int, interval: int, p_s: float, graph_loss_s: float) -> float:
    """The mean TPOT with so many requests in flight."""
    count = ROUNDS * in_flight
    generator = np.random.default_rng(0)
    prompts, outputs = (generator.uniform(LEAST * most, most, count) for most in (PROMPT_TOKENS, OUTPUT_TOKENS))
    requests = workload(prompts, outputs)
    model = StepTimeModel("of vLLM's table", C_S, A_S, B_S, per_prefill_token_s=p_s, graph_loss_s=graph_loss_s)
    conditions = Conditions(arrivals=f"closed:{in_flight}", binding="immediate")
    rule = f"vllm:gpu=b200,interval={interval}"
    return served(requests, ranks, 1_024, model, rule, "vllm", conditions).tpot_ms_mean


def left_out(ranks: int, in_flight: int, p_s: float = P_S, graph_loss_s: float = GRAPH_LOSS_S) -> float:
    """TPOT without the rule over that with it."""
    without, with_rule = (tpot_ms(ranks, in_flight, n, p_s, graph_loss_s) for n in (1, INTERVAL))
    return without / with_rule


def row(figure: str, ranks: int, in_flight: int, published: float) -> Row:
    """The ratio of one of its systems, and what it rests on."""
    other = (
        ("p 40 us and C_x 30 ms", partial(left_out, ranks, in_flight, 40e-6, 0.030)),
        ("C_x 0", partial(left_out, ranks, in_flight, graph_loss_s=0.0)),
    )
    return Row(figure, published, "prediction", partial(left_out, ranks, in_flight), within=0.2, other=other)


COMPARISON = Comparison(
    title="What it costs a simulator to leave the rule out",
    source="aisimulate, pull request 98: Kimi-K2.5 NVFP4 on B200 and B300, interval 4",
    facts="8 and 4 ranks, 8k tokens in and 1k out, 512 and 1,024 requests in flight; its errors of TPOT without the "
    "rule (+94%, +73%, +39 to +46%) and with it (+7%, +3%, +5 to +17%), whose ratio is the effect of the rule",
    assumed="the coefficients fitted to vLLM's table above, for another model on other GPUs; lengths that are uniform "
    "from 0.8 to 1 of the stated ones; 512 in flight on 4 ranks; 1,024 slots",
    rows=[
        row("TPOT without the rule over TPOT with it: 8 ranks, 512 in flight", 8, 512, 1.94 / 1.07),
        row("8 ranks, 1,024 in flight", 8, 1_024, 1.73 / 1.03),
        row("4 ranks", 4, 512, (1.39 + 1.46) / (1.05 + 1.17)),
    ],
    verdict="lbal predicts a TPOT without the rule that is a third to a half longer, in the published order of the "
    "three systems, and less than published on 8 ranks. With lengths that are all equal, requests would run in step "
    "and the rule would change next to nothing.",
)
