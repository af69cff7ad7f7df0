"""One step's placement problem, solved: which waiting requests go to which ranks."""

from lbal.replay.solver.problem import Solution, StepProblem
from lbal.replay.solver.solve import Method, solve, solve_fast

__all__ = ["Method", "Solution", "StepProblem", "solve", "solve_fast"]
