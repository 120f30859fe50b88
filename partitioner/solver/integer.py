"""Integer programs, solved by the engines inside OR-Tools; the only module that imports ortools.

A program is arrays; `solve` tries one engine after another until one has a proof, within one deadline, and checks every
solution again in exact integers. This module must not know GPUs.
"""

from __future__ import annotations

import datetime
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ortools.math_opt.python import mathopt

_log = logging.getLogger(__name__)

ENGINES = ("GSCIP", "HIGHS", "CP_SAT")
"""Engines in the order in which they are tried. SCIP proves small integrality gaps in a fraction of a second."""

_UNBOUNDED = 2**31


@dataclass(slots=True)
class Program:
    """Minimise ``cost . x`` over integers ``0 <= x <= upper`` with ``low <= rows . x <= high``."""

    cost: list[int] = field(default_factory=list)
    upper: list[int] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    entries: list[tuple[int, int, int]] = field(default_factory=list)  # (row, variable, coefficient)

    def variable(self, upper: int | None, cost: int = 0) -> int:
        """Add a variable and return its number; `upper` None means no practical bound."""
        self.upper.append(_UNBOUNDED if upper is None else upper)
        self.cost.append(cost)
        return len(self.upper) - 1

    def row(self, terms: Sequence[tuple[int, int]], low: float = -np.inf, high: float = np.inf) -> int:
        """Add a row over (variable, coefficient) terms and return its number."""
        number = len(self.low)
        self.low.append(low)
        self.high.append(high)
        self.entries.extend((number, variable, coefficient) for variable, coefficient in terms)
        return number

    def violated(self, values: npt.NDArray[np.int64]) -> bool:
        """Whether values break a bound or a row, in exact integers."""
        if (values < 0).any() or (values > np.array(self.upper, dtype=np.int64)).any():
            return True
        sums = np.zeros(len(self.low), dtype=np.int64)
        if self.entries:
            rows, variables, coefficients = np.array(self.entries, dtype=np.int64).T
            np.add.at(sums, rows, coefficients * values[variables])
        return bool((sums < np.array(self.low)).any() or (sums > np.array(self.high)).any())


@dataclass(frozen=True, slots=True)
class Answer:
    """What is known of a program's optimum.

    Parameters
    ----------
    values : the best solution found, shape ``(n_variables,)``; None where none was found.
    objective : its cost; None where none was found.
    bound : no solution costs less; None where not even that is known.
    infeasible : proven to have no solution.
    engine : which engine gave the proof, or the best solution.
    others : worse solutions met on the way, as `values`.
    """

    values: npt.NDArray[np.int64] | None
    objective: int | None
    bound: int | None
    infeasible: bool
    engine: str
    others: tuple[npt.NDArray[np.int64], ...] = ()

    @property
    def optimal(self) -> bool:
        """Whether the solution is proven best."""
        return self.objective is not None and self.bound is not None and self.bound >= self.objective

    def within(self, gap: float) -> bool:
        """Whether the solution is proven to be within a relative gap of the best."""
        return self.objective is not None and self.bound is not None and self.objective - self.bound <= gap * abs(self.objective)


def solve(
    program: Program, *, deadline: float, seed: int, gap: float = 0.0, known: npt.NDArray[np.int64] | None = None
) -> Answer:
    """Solve a program until proven or until the deadline.

    Parameters
    ----------
    program : what to minimise.
    deadline : on the clock of `time.monotonic` [s].
    seed : for the engines; the same seed gives the same answer where the deadline does not cut in.
    gap : relative distance of objective and bound at which to stop looking; 0 looks for a proof.
    known : values of a solution that is known already, shape ``(n_variables,)``.
    """
    best = _core(program, deadline, seed, gap, known) if len(program.upper) > SMALL else _NOTHING
    if best.optimal or best.within(gap):
        return best
    for number, engine in enumerate(ENGINES):
        left = deadline - time.monotonic()
        if left <= 0 or (left < _SLOW_S and len(program.upper) > SMALL and not (best.values is None and known is None)):
            break
        # An engine that has no proof after its share of the time rarely finds one; leave some for the next.
        share = left if number == len(ENGINES) - 1 else left * 0.6
        best = _better(best, _run(program, engine, share, seed, gap))
        if best.optimal or best.infeasible or best.within(gap):
            break
    return best


_NOTHING = Answer(None, None, None, infeasible=False, engine="none")
SMALL = 3000
"""Variables up to which a program is solved as it is."""
_CORE = 1500  # variables
_SLOW_S = 2.0  # engines may take so much longer than their time with a large program
_CORE_ENGINES = ("CP_SAT", "GSCIP")  # with the bound known, it takes good solutions rather than good bounds


def _core(program: Program, deadline: float, seed: int, gap: float, known: npt.NDArray[np.int64] | None) -> Answer:
    """Solve over the variables that the linear relaxation likes best; often as good as its bound, and so proven.

    Balas and Zemel's core (Operations Research 28, 1980): reduced costs tell which variables matter.
    """
    relaxed = relax(program, time_limit_s=0.5 * (deadline - time.monotonic()))
    if relaxed is None:
        return _NOTHING
    bound = _round_up(relaxed.value)
    wanted = relaxed.values > 1e-9
    if known is not None:
        wanted |= known > 0
    order = np.lexsort((np.arange(len(program.upper)), relaxed.reduced_costs.clip(min=0.0), ~wanted))
    chosen = np.zeros(len(program.upper), dtype=bool)
    chosen[order[: max(_CORE, int(wanted.sum()))]] = True
    upper = [most if keep else 0 for most, keep in zip(program.upper, chosen.tolist(), strict=True)]
    core = Program(program.cost, upper, program.low, program.high, program.entries)
    best = replace(_NOTHING, bound=bound)
    for engine in _CORE_ENGINES:
        answer = _run(core, engine, 0.25 * (deadline - time.monotonic()), seed, gap)
        if answer.values is not None and answer.objective is not None:  # its own bound holds for the core alone
            best = _better(best, replace(answer, bound=None if bound is None else min(bound, answer.objective)))
        if best.optimal or best.within(gap):
            break
    return best


def _better(a: Answer, b: Answer) -> Answer:
    """Join two answers: the better solution, the better bound."""
    if b.infeasible:
        return b if a.values is None else a
    bounds = [answer.bound for answer in (a, b) if answer.bound is not None]
    keep = b if a.objective is None or (b.objective is not None and b.objective < a.objective) else a
    proof = max((a, b), key=lambda answer: -np.inf if answer.bound is None else answer.bound)
    bound = max(bounds) if bounds else None
    closed = keep.objective is not None and bound is not None and bound >= keep.objective
    proven_by = proof.engine if closed and proof.engine != _NOTHING.engine else keep.engine  # a relaxation is no engine
    return Answer(keep.values, keep.objective, bound, infeasible=False, engine=proven_by)


def _run(program: Program, engine: str, time_limit_s: float, seed: int, gap: float) -> Answer:
    from ortools.math_opt.python import mathopt

    nothing = Answer(None, None, None, infeasible=False, engine=engine)
    model = _model(program, integer=True)
    parameters = mathopt.SolveParameters(
        time_limit=datetime.timedelta(seconds=max(time_limit_s, 0.001)),
        relative_gap_tolerance=gap,
        random_seed=seed % 2**31,
        threads=None if engine == "HIGHS" else 1,  # HiGHS takes no thread count here
    )
    if engine == "GSCIP":  # tighter than the integers' own tolerance, so that rounding breaks no row
        parameters.gscip.real_params["numerics/feastol"] = 1e-9
    try:
        result = mathopt.solve(model, mathopt.SolverType[engine], params=parameters)
    except Exception as error:  # noqa: BLE001 - engines raise types of their own; the next engine takes over
        _log.warning("%s failed: %s", engine, error)
        return nothing
    reason = result.termination.reason
    if reason in (mathopt.TerminationReason.INFEASIBLE, mathopt.TerminationReason.INFEASIBLE_OR_UNBOUNDED):
        return Answer(None, None, None, infeasible=True, engine=engine)
    bound = _round_up(result.termination.objective_bounds.dual_bound)
    if not result.has_primal_feasible_solution():
        return Answer(None, None, bound, infeasible=False, engine=engine)
    variables = list(model.variables())
    met = [np.array([s.primal_solution.variable_values[v] for v in variables]) for s in result.solutions if s.primal_solution]
    values, *others = [np.rint(found).astype(np.int64) for found in met]
    if program.violated(values):
        _log.warning("%s returned values that break a row once rounded; not used", engine)
        return nothing
    objective = int(np.array(program.cost, dtype=np.int64) @ values)
    if reason == mathopt.TerminationReason.OPTIMAL and not gap:  # the other tolerances are below one unit of cost
        bound = objective
    bound = None if bound is None else min(bound, objective)
    sound = tuple(other for other in others if not program.violated(other))
    return Answer(values, objective, bound, infeasible=False, engine=engine, others=sound)


def _round_up(bound: float) -> int | None:
    """Round a bound on an integer objective up; engines compute in floating point, so not for a hair's breadth."""
    return int(np.ceil(bound - 1e-6 * max(1.0, abs(bound) * 1e-3))) if np.isfinite(bound) else None


def _row_scales(program: Program) -> list[float]:
    """Return what to multiply each row by, so that its largest coefficient is near 1 where it was large."""
    largest = [1] * len(program.low)
    for row, _, coefficient in program.entries:
        largest[row] = max(largest[row], abs(coefficient))
    return [1.0 if most <= _LARGE else 1.0 / most for most in largest]


_LARGE = 1000


def _model(program: Program, *, integer: bool) -> mathopt.Model:
    from ortools.math_opt import model_pb2
    from ortools.math_opt.python import mathopt

    n, m = len(program.upper), len(program.low)
    proto = model_pb2.ModelProto()
    proto.variables.ids.extend(range(n))
    proto.variables.lower_bounds.extend([0.0] * n)
    proto.variables.upper_bounds.extend(map(float, program.upper))
    proto.variables.integers.extend([integer] * n)
    costs = [(i, float(c)) for i, c in enumerate(program.cost) if c]
    proto.objective.linear_coefficients.ids.extend(i for i, _ in costs)
    proto.objective.linear_coefficients.values.extend(c for _, c in costs)
    scale = _row_scales(program)
    proto.linear_constraints.ids.extend(range(m))
    proto.linear_constraints.lower_bounds.extend(low * by for low, by in zip(program.low, scale, strict=True))
    proto.linear_constraints.upper_bounds.extend(high * by for high, by in zip(program.high, scale, strict=True))
    entries = sorted(program.entries)
    proto.linear_constraint_matrix.row_ids.extend(row for row, _, _ in entries)
    proto.linear_constraint_matrix.column_ids.extend(variable for _, variable, _ in entries)
    proto.linear_constraint_matrix.coefficients.extend(coefficient * scale[row] for row, _, coefficient in entries)
    return mathopt.Model.from_model_proto(proto)


@dataclass(frozen=True, slots=True)
class Relaxed:
    """The optimum of a linear relaxation.

    Parameters
    ----------
    value : its cost.
    duals : dual value of each row, shape ``(n_rows,)``.
    values, reduced_costs : of each variable, shape ``(n_variables,)``.
    """

    value: float
    duals: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    reduced_costs: npt.NDArray[np.float64]


def relax(program: Program, *, time_limit_s: float) -> Relaxed | None:
    """Return the optimum of the linear relaxation; None where it has none, or time ran out."""
    from ortools.math_opt.python import mathopt

    model = _model(program, integer=False)
    parameters = mathopt.SolveParameters(time_limit=datetime.timedelta(seconds=max(time_limit_s, 0.001)))
    result = mathopt.solve(model, mathopt.SolverType.GLOP, params=parameters)
    if result.termination.reason != mathopt.TerminationReason.OPTIMAL or not result.has_dual_feasible_solution():
        return None
    variables = list(model.variables())
    return Relaxed(
        float(result.objective_value()),
        np.array(result.dual_values(list(model.linear_constraints()))) * np.array(_row_scales(program)),
        np.array(result.variable_values(variables)),
        np.array(result.reduced_costs(variables)),
    )
