"""The metrics of headroom: what was avoidable, and the bounds of any policy. All are modelled.

Computed by `analyzers/barrier/bounds.py` and, of replays, by `replay/experiment/figures.py`.
"""

from __future__ import annotations

from lbal.analyzers.metrics.metric import Metric

HEADROOM = [
    Metric(
        "unavoidable_idle_fraction",
        "fraction",
        "neither",
        "unavoidable idle, at least",
        "sum over steps of (G * max(sum(r) / min(G, n), largest r, ceil(n/G) * smallest r) - sum(r)) "
        "/ (G * sum of step times), r = rank time of one active request, n of them",
        group="headroom",
        shown={"headroom": 10},
    ),
    Metric(
        "avoidable_idle_fraction",
        "fraction",
        "lower",
        "avoidable idle, at most",
        "barrier_idle_fraction - unavoidable_idle_fraction",
        group="headroom",
        shown={"headroom": 20},
    ),
    Metric(
        "replaced_idle_fraction",
        "fraction",
        "neither",
        "idle, placed anew",
        "barrier_idle_fraction with the same admissions placed by the solver, which knows the lengths",
        group="headroom",
        shown={"headroom": 30},
    ),
    Metric(
        "recovered_idle_fraction",
        "fraction",
        "higher",
        "avoidable idle recovered",
        "(barrier idle of the reference - barrier idle) / avoidable idle of the reference",
        group="headroom",
        shown={"headroom": 40},
    ),
    Metric(
        "makespan_bound_s",
        "s",
        "neither",
        "makespan of any policy, at least",
        "max over i of arrival_i - arrival_0 + C * max(ceil(sum(o) / (G*B)), max(o)) "
        "+ max((a*W + b*sum(o)) / G, largest a*w + b*o) + b_mean * sum(o) / G, over the requests from i on, "
        "w = token-steps of one request, W = sum(w)",
        group="headroom",
        shown={"page_bounds": 10},
    ),
    Metric(
        "makespan_bound_fraction",
        "fraction",
        "higher",
        "makespan bound over makespan",
        "makespan_bound_s / (end of the last step of the whole run - first arrival)",
        group="headroom",
        shown={"headroom": 50},
    ),
    Metric(
        "tokens_per_second_bound",
        "tokens/s",
        "neither",
        "throughput of any policy, at most",
        "sum(o) / makespan_bound_s without arrivals, of the whole run",
        group="headroom",
        shown={"page_bounds": 20},
    ),
]
