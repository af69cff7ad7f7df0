"""A step's problem as a plain mixed-integer program for SCIP: one binary per request and rank, nothing clever."""

from __future__ import annotations

import numpy as np
from ortools.linear_solver import pywraplp

from lbal.replay.solver.problem import StepProblem


def least_objective(problem: StepProblem) -> float:
    """The least J over all placements of `problem.num_placed` requests; for problems whose KV room is no limit."""
    solver = pywraplp.Solver.CreateSolver("SCIP")
    ranks, requests, steps = len(problem.loads), len(problem.profiles), len(problem.weights)
    chosen = [[solver.BoolVar("") for _ in range(ranks)] for _ in range(requests)]
    largest = [solver.NumVar(0, solver.infinity(), "") for _ in range(steps)]
    for request in range(requests):
        solver.Add(sum(chosen[request]) <= int(problem.allowed[request]))
        if problem.forced[request]:
            solver.Add(sum(chosen[request]) == 1)
    for rank in range(ranks):
        solver.Add(sum(row[rank] for row in chosen) <= int(problem.free_slots[rank]))
        for step in range(steps):
            placed = sum(float(problem.profiles[i, step]) * chosen[i][rank] for i in range(requests))
            solver.Add(largest[step] >= float(problem.loads[rank, step]) + placed)
    solver.Add(sum(sum(row) for row in chosen) == problem.num_placed)
    values = problem.profiles @ problem.weights
    solver.Minimize(
        sum(float(w) * problem.overflow * m for w, m in zip(problem.weights, largest, strict=True))
        - sum(float(values[i]) * sum(chosen[i]) for i in range(requests))
        - float(problem.weights @ problem.loads.sum(axis=0))
    )
    parameters = pywraplp.MPSolverParameters()
    parameters.SetDoubleParam(parameters.RELATIVE_MIP_GAP, 0.0)
    assert solver.Solve(parameters) == solver.OPTIMAL
    picked = [(i, g) for i in range(requests) for g in range(ranks) if chosen[i][g].solution_value() > 0.5]
    where = np.array(picked, np.int64).reshape(-1, 2)
    return problem.objective(where[:, 0], where[:, 1])
