"""Makes a step's problem smaller: equal requests become one class; full ranks and steps without weight are left out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from lbal.analyzers.trace.trace import FloatArray, IntArray
from lbal.replay.solver.problem import StepProblem


@dataclass(frozen=True)
class Reduced:
    """A problem over K classes of equal requests, G' ranks with free slots and the H' steps where the maximum counts.

    J = constant + sum_h prices_h * M_h - sum_k values_k * (placed of class k), M_h at least `base_h`, and at least
    L_g(h) + what is placed on g for every open rank g.
    """

    problem: StepProblem
    members: list[IntArray]
    """Requests of each class, in pool order."""
    class_of: IntArray
    """(R,) the class of each request, -1 for those that may not be placed."""
    multiplicity: IntArray
    """(K,) how many requests each class has."""
    profiles: FloatArray
    """(K, H') load of a request of the class."""
    values: FloatArray
    """(K,) sum over the window of weight times profile."""
    reserved: IntArray
    """(K,) KV tokens that placing one of them reserves."""
    forced: IntArray
    """(K,) members that are forced: all or none."""
    ranks: IntArray
    """(G',) the ranks that have free slots."""
    slots: IntArray
    """(G',) their free slots."""
    loads: FloatArray
    """(G', H') their loads without the waiting requests."""
    room: FloatArray
    """(G',) KV tokens that may still be reserved on them."""
    prices: FloatArray
    """(H',) weight times overflow, above 0."""
    base: FloatArray
    """(H',) lower bound of M_h."""
    constant: float
    limit: IntArray
    """(K, G') how many of a class may go to a rank."""

    @classmethod
    def of(cls, problem: StepProblem) -> Reduced:
        """The reduced form of a problem; every placement of the one is a placement of the other."""
        prices = problem.weights * problem.overflow
        steps = np.flatnonzero(prices > 0)
        ranks = np.flatnonzero(problem.free_slots > 0)
        groups: dict[tuple[bytes, int, bool], list[int]] = {}
        for request in np.flatnonzero(problem.allowed):
            key = (problem.profiles[request].tobytes(), int(problem.reserved[request]), bool(problem.forced[request]))
            groups.setdefault(key, []).append(int(request))
        members = [np.array(group, np.int64) for group in groups.values()]
        first = np.array([group[0] for group in members], np.int64)
        class_of = np.full(len(problem.profiles), -1, np.int64)
        for index, group in enumerate(members):
            class_of[group] = index
        multiplicity = np.array([len(group) for group in members], np.int64)
        slots, room, reserved = problem.free_slots[ranks], problem.room[ranks], problem.reserved[first]
        fits = np.full((len(members), len(ranks)), np.iinfo(np.int64).max)
        limited = np.isfinite(room)
        with np.errstate(divide="ignore", invalid="ignore"):
            most = np.floor(room[None, limited] / reserved[:, None])
        most[(room[None, limited] < reserved[:, None]) | np.isnan(most)] = 0
        most[(reserved[:, None] == 0) & (room[None, limited] >= 0)] = np.inf
        fits[:, limited] = np.minimum(most, slots.sum()).astype(np.int64)
        return cls(
            problem=problem,
            members=members,
            class_of=class_of,
            multiplicity=multiplicity,
            profiles=problem.profiles[np.ix_(first, steps)],
            values=problem.profiles[first] @ problem.weights,
            reserved=reserved,
            forced=np.where(problem.forced[first], multiplicity, 0),
            ranks=ranks,
            slots=slots,
            loads=problem.loads[np.ix_(ranks, steps)],
            room=room,
            prices=prices[steps],
            base=problem.loads[:, steps].max(axis=0),
            constant=-float(problem.weights @ problem.loads.sum(axis=0)),
            limit=np.minimum(np.minimum(multiplicity[:, None], slots[None, :]), fits),
        )

    def _largest_sum(self, sizes: FloatArray, rank: int) -> float:
        order = np.argsort(-sizes, kind="stable")
        return float(np.repeat(sizes[order], self.limit[order, rank])[: self.slots[rank]].sum())

    def largest_added(self) -> FloatArray:
        """(G', H') the most that the slots of each rank can add to its load."""
        return np.array(
            [[self._largest_sum(column, rank) for column in self.profiles.T] for rank in range(len(self.ranks))]
        ).reshape(self.loads.shape)

    def largest_value(self, placed: int) -> float:
        """The most that `placed` requests can take off J."""
        order = np.argsort(-self.values, kind="stable")
        return float(np.repeat(self.values[order], self.multiplicity[order])[:placed].sum())

    def counts_of(self, requests: IntArray, ranks: IntArray) -> IntArray | None:
        """Counts (K, G') of a placement: how many of each class go to each rank. None where it breaks a constraint."""
        counts = np.zeros_like(self.limit)
        index_of = {int(rank): index for index, rank in enumerate(self.ranks)}
        if len(set(requests.tolist())) < len(requests):
            return None
        for request, rank in zip(requests.tolist(), ranks.tolist(), strict=True):
            if self.class_of[request] < 0 or rank not in index_of:
                return None
            counts[self.class_of[request], index_of[rank]] += 1
        fits = (counts.sum(axis=0) <= self.slots).all() and (self.reserved @ counts <= self.room).all()
        return counts if fits else None

    def placement_of(self, counts: IntArray) -> tuple[IntArray, IntArray]:
        """Requests in pool order and their ranks; of equal requests the oldest are placed, on the first ranks."""
        requests: list[int] = []
        ranks: list[int] = []
        for group, row in zip(self.members, counts, strict=True):
            where = np.repeat(self.ranks, row)
            requests += group[: len(where)].tolist()
            ranks += where.tolist()
        order = np.argsort(np.array(requests, np.int64), kind="stable")
        return np.array(requests, np.int64)[order], np.array(ranks, np.int64)[order]

    def equal_ranks(self) -> list[list[int]]:
        """Groups of open ranks (as indices) that no placement tells apart."""
        groups: dict[tuple[bytes, int, float], list[int]] = {}
        for index in range(len(self.ranks)):
            row = self.problem.loads[self.ranks[index]].tobytes()
            groups.setdefault((row, int(self.slots[index]), float(self.room[index])), []).append(index)
        return [group for group in groups.values() if len(group) > 1]

    def in_order(self, counts: IntArray) -> IntArray:
        """The same placement with equal ranks in the order that breaks the symmetry."""
        ordered = counts.copy()
        keys = self.order_key() @ counts
        for group in self.equal_ranks():
            ordered[:, group] = counts[:, sorted(group, key=lambda rank: int(keys[rank]))]
        return ordered

    def order_key(self) -> IntArray:
        """(K,) what equal ranks are ordered by: the sum of these over the requests placed on them."""
        return np.arange(1, len(self.members) + 1)

    def with_limits(self, base: FloatArray, limit: IntArray) -> Reduced:
        """The same problem with a higher base (H',) and lower limits (K, G')."""
        return replace(self, base=base, limit=limit)
