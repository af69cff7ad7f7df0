"""Published effects of prefill rules whose deciding facts were not published."""

from __future__ import annotations

from published.row import Comparison, Row

CHUNKS = Comparison(
    title="Steps of decoding after every chunk of a long prompt",
    source="SGLang, pull request 40443: DSV4.1 on 8 H200, TP4, 8 prompts of 256k tokens",
    facts="the rule: `--prefill-decode-interval` 0, 4, 8",
    assumed="nothing",
    rows=[
        Row(
            f"tokens/s of a request with interval {interval}",
            published,
            "cannot be predicted",
            reason="output lengths, accepted tokens a step and the number of ranks were not published",
        )
        for interval, published in ((0, 1.38), (4, 18.45), (8, 32.05))
    ],
    verdict="`lbal replay --prefill sglang:interval=N` has the rule; what follows from it rests on those three facts.",
)
TICKS = Comparison(
    title="Prompts in every N-th step, on another engine",
    source="ATOM, pull request 2238: Kimi-K3",
    facts="the rule: prompts in every 4th and 8th step",
    assumed="nothing",
    rows=[
        Row(
            f"{figure}, interval {interval} over none",
            published,
            "cannot be predicted",
            reason="lengths, rate and ranks were not published",
        )
        for interval, figures in {
            4: {"ITL p90": 0.937, "output tokens/s": 1.050, "TTFT p50": 1.56},
            8: {"ITL p90": 0.879, "output tokens/s": 1.069, "TTFT p50": 1.94},
        }.items()
        for figure, published in figures.items()
    ],
    verdict="The direction (shorter gaps, later first tokens) is that of vLLM's rule above.",
)
