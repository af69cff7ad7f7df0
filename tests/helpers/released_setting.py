"""The setting of the runs of the released simulator of arXiv 2601.17855: its policies by our names, its clusters."""

from __future__ import annotations

from lbal.analyzers.models.step_models import step_model
from lbal.replay.scenario.cluster import Cluster

OURS = {"FCFS": "fcfs", "JSQ": "jsq-kv", "RR": "round-robin:restart=true", "ALIGN": "align-max"}
SHAPES = [(16, 72), (32, 72), (8, 16)]


def cluster_of(ranks: int, slots: int) -> Cluster:
    return Cluster(ranks, slots, step_model("paper-release", slots))
