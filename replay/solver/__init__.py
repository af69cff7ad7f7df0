"""One step's placement problem, solved: which waiting requests go to which ranks."""

from lbal.replay.solver.exact import solve_exact
from lbal.replay.solver.problem import Solution, StepProblem

__all__ = ["Solution", "StepProblem", "solve_exact"]
