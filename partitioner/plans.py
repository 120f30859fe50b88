"""The answer: a layout, what is proven of it, and what was left out and why. A value; must not know how it was found."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from fractions import Fraction
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from partitioner import drawing, report
from partitioner.advice import Comparison, Explanation, Figures, Sensitivity, figures_of
from partitioner.advice import compare as compare_sides
from partitioner.advice import explain as explain_workload
from partitioner.advice import sensitivity as sensitivity_of
from partitioner.advice.comparison import Side
from partitioner.documents import Document, json_lines, json_text, parse, problems_of, read, write
from partitioner.errors import InfeasibleError, PartitionerError, SpecError, VerificationError
from partitioner.fleet import Fleet
from partitioner.layout import Assignment, Layout
from partitioner.metrics import Metrics, existing, measure
from partitioner.performance import Calibration, Rating
from partitioner.solver.explain import Unplaced
from partitioner.solver.inquiry import Answer, Inquiry, Price, RatingKey
from partitioner.solver.migration import Move, Spot, migration
from partitioner.solver.placing import Failover
from partitioner.solver.problem import Objective
from partitioner.solver.verification import KindKey, verify
from partitioner.workload import Workload, Workloads

if TYPE_CHECKING:
    import pandas as pd

FORMAT = "gpu-partitioner/plan"
VERSION = 1
MAX_PLAN_MIB = 2048
"""Largest saved plan that is read [MiB]."""


@dataclass(frozen=True, repr=False)
class Plan:
    """A layout of a fleet for workloads, with what is proven of it.

    Parameters
    ----------
    workloads : what was asked for, in order.
    fleet : the GPUs; None where GPUs of one model without hosts were planned.
    gpu : that model.
    gpus : how many of them there are; None: as many as needed.
    modes : the modes or families of modes that the plan may use; None: all.
    status : ``optimal``, with every stage of the objective proven (of ``waste`` with services to 0.1%), or ``feasible``.
    objectives : the stages, each with its value and the best possible one; cost in millionths of the currency per hour,
        power in milliwatts.
    certificate : what proves `lower_bound`: ``closed form`` and ``configuration LP`` rest on `prices` that `verify`
        checks exactly, ``branch and bound (...)`` on the engine named.
    unplaced : workloads of which replicas were left out, each with the reason and the least remedy.
    notes : what a reader should know beside the figures.
    layout : placements and occupants.
    prices, rents : exact prices behind the bound: (kind of GPU, mode, profile) to price, kind of GPU to rent.
    objective : names of the stages, in order.
    host_failures : hosts whose loss the layout survives.
    ratings : what the calibration says of each profile that a service could take: (workload, GPU model, mode, profile)
        to throughput, latency, batch and processes.
    failover : where each replica goes when its host fails, where the layout survives that.
    current : what ran before, where the plan starts from it.
    pinned : workloads, or ``workload/replica``, that stay where they were.
    vacate : hosts and GPUs on which nothing may stand.
    calibration : the table that services were planned with; not saved with the plan.
    """

    workloads: tuple[Workload, ...]
    fleet: Fleet | None
    gpu: str | None
    gpus: int | None
    modes: tuple[str, ...] | None
    status: Literal["optimal", "feasible"]
    objectives: tuple[Objective, ...]
    certificate: str
    unplaced: tuple[Unplaced, ...]
    notes: tuple[str, ...]
    layout: Layout
    prices: Mapping[Price, Fraction] = field(default_factory=dict)
    rents: Mapping[KindKey, Fraction] = field(default_factory=dict)
    objective: tuple[str, ...] = ("placed", "gpus", "waste")
    host_failures: int = 0
    ratings: Mapping[RatingKey, Rating] = field(default_factory=dict)
    failover: tuple[Failover, ...] = ()
    current: Layout | None = None
    pinned: tuple[str, ...] = ()
    vacate: tuple[str, ...] = ()
    calibration: Calibration | None = field(default=None, compare=False)

    @classmethod
    def of(cls, inquiry: Inquiry, answer: Answer) -> Plan:
        """Return the plan that an answer makes; not checked yet, `verify` does."""
        return cls(
            tuple(inquiry.workloads),
            inquiry.fleet,
            inquiry.gpu,
            inquiry.gpus,
            inquiry.modes,
            answer.status,
            answer.objectives,
            answer.certificate,
            answer.unplaced,
            answer.notes,
            answer.layout,
            answer.prices,
            answer.rents,
            inquiry.objective,
            inquiry.host_failures,
            answer.ratings,
            answer.failover,
            inquiry.current,
            inquiry.pinned,
            inquiry.vacate,
            inquiry.calibration,
        )

    # -- figures ---------------------------------------------------------------------------------------------------

    @property
    def complete(self) -> bool:
        """Whether every replica is placed."""
        return not self.unplaced

    @property
    def gpus_used(self) -> int:
        """Number of GPUs with placements."""
        return int(self.layout.used.sum())

    @property
    def lower_bound(self) -> int:
        """No plan places these replicas on fewer GPUs."""
        return next(stage.bound for stage in self.objectives if stage.name == "gpus")

    @property
    def placed(self) -> int:
        """Number of replicas placed."""
        return next(stage.value for stage in self.objectives if stage.name == "placed")

    @property
    def cost_per_hour(self) -> float | None:
        """What the GPUs in use cost in an hour; None where one of them has no cost."""
        return self._figures.cost_per_hour

    @property
    def power_w(self) -> float | None:
        """Power of the GPUs in use [W]; None where one of them has none."""
        return self._figures.power_w

    @property
    def hosts_used(self) -> int | None:
        """Number of hosts with placements; None where no hosts were planned."""
        return self._figures.hosts

    @cached_property
    def _figures(self) -> Figures:
        return figures_of(self.layout, self.fleet, self.placed)

    @cached_property
    def metrics(self) -> Metrics:
        """What is used, wasted, stranded and still free."""
        return measure(self.layout, self.workloads, self.fleet, current=self.current)

    @cached_property
    def moves(self) -> tuple[Move, ...]:
        """Instances of what is asked for that are in another place than in `current`, or left out; empty without it."""
        return () if self.current is None else migration(self.current, self.layout, self.workloads).moves()

    @property
    def summary(self) -> str:
        """The answer in one line, e.g. ``3 GPUs, proven optimal (closed form)``."""
        gpus = report.counted(self.gpus_used, "GPU")
        open_stages = [stage.name for stage in self.objectives if not stage.proven]
        if self.status == "optimal":
            proof = f"proven optimal ({self.certificate})"
        elif not set(open_stages) & {"placed", "gpus"}:
            proof = f"proven fewest ({self.certificate}); {' and '.join(open_stages)} not proven least"
        else:
            proof = f"feasible; at least {self.lower_bound:,} are needed ({self.certificate})"
        left = sum(entry.count for entry in self.unplaced)
        return f"{self._what_is_placed} on {gpus}, {proof}{self._what_moves}" + (f"; {left:,} left out" if left else "")

    @property
    def _what_moves(self) -> str:
        """``; 12 moves, proven fewest``; empty where the plan does not start from what ran before."""
        stage = next((stage for stage in self.objectives if stage.name == "moves"), None)
        if stage is None:
            return ""
        priced = f" at a price of {stage.value:,}" if stage.value != self.metrics.migrations else ""
        proof = f"proven {'least' if priced else 'fewest'}" if stage.proven else f"not proven fewest (at least {stage.bound:,})"
        return f"; {report.counted(self.metrics.migrations, 'move')}{priced}, {proof}"

    @property
    def _what_is_placed(self) -> str:
        """``3 replicas``, ``2 services``, ``3 replicas and 2 services``."""
        out = {entry.workload for entry in self.unplaced}
        services = sum(workload.model is not None and workload.name not in out for workload in self.workloads)
        replicas = self.placed - services
        parts = [report.counted(replicas, "replica")] if replicas or not services else []
        return " and ".join([*parts, *([report.counted(services, "service")] if services else [])])

    def assignments(self) -> Iterator[Assignment]:
        """Iterate over every replica placed and where it runs; services with batch, processes and throughput."""
        for assignment in self.layout.assignments():
            if not self.ratings:
                yield assignment
                continue
            model = self._model_of(assignment.host, assignment.gpu)
            rating = self.ratings.get((assignment.workload, model, assignment.mode, assignment.profile))
            yield (
                assignment
                if rating is None
                else replace(assignment, batch=rating.batch, processes=rating.processes, throughput=rating.throughput_rps)
            )

    def _model_of(self, host: str | None, gpu: int) -> str:
        return self.gpu if self.gpu is not None else self._models[host, gpu]

    @cached_property
    def _models(self) -> dict[tuple[str | None, int], str]:
        return {(host, index): gpu.model for host, index, gpu in self.fleet or ()}

    def to_frame(self) -> pd.DataFrame:
        """Return the assignments as a pandas frame, one row for each replica placed.

        Raises
        ------
        PartitionerError
            pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError as error:
            raise PartitionerError("to_frame needs pandas; install gpu-partitioner[notebook]") from error
        columns = ["workload", "replica", "host", "gpu", "mode", "profile", "start"]
        columns += ["batch", "processes", "throughput"] if self.ratings else []
        rows = ([getattr(a, column) for column in columns] for a in self.assignments())
        frame = pd.DataFrame(rows, columns=columns)
        return frame.astype({"batch": "Int64", "processes": "Int64"}) if self.ratings else frame  # whole, or missing

    def require_complete(self) -> Plan:
        """Return the plan itself when every replica is placed.

        Raises
        ------
        InfeasibleError
            Something was left out; the reasons name what, why and the least remedy.
        """
        if self.unplaced:
            left = sum(entry.count for entry in self.unplaced)
            total = self.placed + left
            raise InfeasibleError(f"{left:,} of {total:,} replicas cannot be placed", [str(entry) for entry in self.unplaced])
        return self

    def verify(self) -> Plan:
        """Check the plan with code that shares nothing with the solvers, and return the plan itself.

        Raises
        ------
        VerificationError
            Everything that is wrong with it.
        """
        verify(self)
        return self

    # -- why, and what if ------------------------------------------------------------------------------------------

    def explain(
        self, workload_name: str, *, calibration: Calibration | None = None, time_limit_s: float = 10.0, seed: int = 0
    ) -> Explanation:
        """Say why a workload is placed as it is, or left out, and what would change that.

        Parameters
        ----------
        workload_name : the workload.
        calibration : what models do on profiles, where there are services; None takes the table that the plan was made
            with, and the published measurements for a plan that was loaded.
        time_limit_s : for all what-if questions together [s]; what was not settled by then is said.
        seed : for the engines.

        Raises
        ------
        SpecError
            There is no such workload (names near matches), or the time limit is not a number of seconds.

        Examples
        --------
        >>> from partitioner import plan_mig
        >>> plan_mig({"3g.40gb": 3}, gpus=1).explain("3g.40gb").remedies[0].words
        '2 replicas instead of 3'
        """
        _check_time_limit(time_limit_s)
        inquiry = self._inquiry(calibration)
        return explain_workload(inquiry, self._answer, workload_name, time_limit_s=time_limit_s, seed=seed)

    def sensitivity(self, *, calibration: Calibration | None = None, time_limit_s: float = 10.0, seed: int = 0) -> Sensitivity:
        """Return what one GPU more, and one fewer, of each model changes, by planning again.

        Parameters
        ----------
        calibration, time_limit_s, seed : as of `explain`.

        Raises
        ------
        SpecError
            The time limit is not a number of seconds.
        """
        _check_time_limit(time_limit_s)
        inquiry = self._inquiry(calibration)
        if inquiry.current is not None:  # with another fleet its GPUs have other names
            stages = tuple(name for name in inquiry.objective if name != "moves")
            inquiry = replace(inquiry, current=None, pinned=(), objective=stages)
        return sensitivity_of(inquiry, self._answer, time_limit_s=time_limit_s, seed=seed)

    def compare(self, other: Plan) -> Comparison:
        """Return this plan and another one side by side; which is better goes by this plan's objective.

        Raises
        ------
        SpecError
            The other is no plan.
        """
        if not isinstance(other, Plan):
            raise SpecError(f"compare: {type(other).__name__} is not a Plan; load a saved one with Plan.load")
        return compare_sides(self._side, other._side)

    def _inquiry(self, calibration: Calibration | None = None) -> Inquiry:
        """Return the question that the plan answers."""
        known = calibration or self.calibration
        if known is None and any(workload.model is not None for workload in self.workloads):
            known = Calibration.default()
        return replace(self._question, calibration=known)

    @property
    def _question(self) -> Inquiry:
        workloads = Workloads(self.workloads)
        return Inquiry(
            workloads,
            self.fleet,
            self.gpu,
            self.gpus,
            self.modes,
            self.objective,
            self.host_failures,
            current=self.current,
            pinned=self.pinned,
            vacate=self.vacate,
        )

    @property
    def _answer(self) -> Answer:
        return Answer(
            self.layout,
            self.status,
            self.objectives,
            self.certificate,
            self.unplaced,
            self.notes,
            self.prices,
            self.rents,
            self.ratings,
            self.failover,
        )

    @property
    def _side(self) -> Side:
        return Side(self._question, self._answer, self.metrics)

    # -- text and pictures -----------------------------------------------------------------------------------------

    def __repr__(self) -> str:
        return f"<Plan: {self.summary}>"

    def __str__(self) -> str:
        return self.to_text()

    def to_text(self, width: int | None = None) -> str:
        """Return the plan as a text table.

        Parameters
        ----------
        width : columns of text; None takes the terminal's, or 100.
        """
        return report.text(
            self.summary,
            self.layout,
            self.metrics,
            self.unplaced,
            self.notes,
            sections=report.sections(self),
            fleet=self.fleet,
            width=width,
        )

    def to_svg(self) -> str:
        """Return a picture of every GPU's slices with their occupants; identical GPUs are drawn once."""
        return drawing.svg(
            self.layout, title="GPU partition plan", facts=self._facts(), notes=self._remarks(), context=self._context()
        )

    def to_html(self) -> str:
        """Return a page of its own: the picture, the figures and the assignments of each group of GPUs."""
        return drawing.html(
            self.layout,
            title="GPU partition plan",
            facts=self._facts(),
            notes=self._remarks(),
            context=self._context(),
            table=report.rows(self.layout, self.fleet),
            tables={section.heading: section.rows for section in report.sections(self)},
        )

    def _repr_html_(self) -> str:
        return self.to_svg()

    def _facts(self) -> tuple[str, ...]:
        return (self.summary, *report.figures(self.metrics))

    def _context(self) -> drawing.Context:
        rates = {place: rating.throughput_rps for place, rating in self.ratings.items()}
        return drawing.Context(existing(self.layout, self.fleet), rates, report.host_figures(self), spare=self.host_failures > 0)

    def _remarks(self) -> tuple[str, ...]:
        more = [f"and {len(self.unplaced) - 20:,} more workloads left out"] if len(self.unplaced) > 20 else []
        return (*(str(entry) for entry in self.unplaced[:20]), *more, *self.notes)

    # -- files -----------------------------------------------------------------------------------------------------

    def to_json(self) -> str:
        """Return the plan as JSON, one workload and one GPU to a line; the same plan always gives the same text."""
        head: dict[str, Any] = {
            "format": FORMAT,
            "version": VERSION,
            "status": self.status,
            "complete": self.complete,
            "gpus_used": self.gpus_used,
            "lower_bound": self.lower_bound,
            "certificate": self.certificate,
            "objective": list(self.objective),
            "host_failures": self.host_failures,
            "objectives": [{"name": s.name, "value": s.value, "bound": s.bound} for s in self.objectives],
            "prices": [
                {"model": k[0], "fixed": k[1], "mode": mode, "profile": profile, "price": str(price)}
                for (k, mode, profile), price in self.prices.items()
            ],
            "rents": [{"model": k[0], "fixed": k[1], "rent": str(rent)} for k, rent in self.rents.items()],
            "metrics": self.metrics.to_data(),
            "unplaced": [
                {"workload": u.workload, "count": u.count, "reason": u.reason, "remedy": u.remedy} for u in self.unplaced
            ],
            "notes": list(self.notes),
            "gpu": self.gpu,
            "gpus": self.gpus,
            "modes": None if self.modes is None else list(self.modes),
            "fleet": None if self.fleet is None else _FLEET.dump_python(self.fleet, mode="json", exclude_defaults=True),
        }
        workloads = _WORKLOADS.dump_python(self.workloads, mode="json", exclude_defaults=True)
        lines = [f"{json.dumps(key)}: {json_text(value)}" for key, value in head.items()]
        lines.append('"workloads": ' + json_lines(workloads))
        lines += self._service_lines()
        if self.current is not None:
            lines += self._current_lines()
        if self.vacate:
            lines.append('"vacate": ' + json_text(list(self.vacate)))
        if self.failover:
            lines.append('"failover": ' + json_lines([asdict(move) for move in self.failover]))
        lines.append('"layout": ' + json_lines(self.layout.to_data()))
        return "{\n" + ",\n".join(lines) + "\n}\n"

    def _current_lines(self) -> Iterator[str]:
        """Iterate over the lines of what ran before, and of what moves."""
        assert self.current is not None
        if self.pinned:
            yield '"pinned": ' + json_text(list(self.pinned))
        yield '"moves": ' + json_lines([_move_data(move) for move in self.moves])
        yield '"current": ' + json_lines(self.current.to_data())

    def _service_lines(self) -> Iterator[str]:
        """Iterate over the lines of the ratings; sources, long and few, are listed once and then meant by their number."""
        sources = {source: None for rating in self.ratings.values() for source in rating.sources}
        number = {source: at for at, source in enumerate(sources)}
        if self.ratings:
            records = [_rating_data(key, rating, number) for key, rating in self.ratings.items()]
            yield '"sources": ' + json_lines(list(sources))
            yield '"ratings": ' + json_lines(records)

    @classmethod
    def from_json(cls, text: str, *, origin: str = "<json>") -> Plan:
        """Return the plan that `to_json` wrote, checked again.

        Raises
        ------
        SpecError
            The text is not such a plan, is of another version, or contradicts itself or the catalogue.
        """
        return cls._from_document(parse(text, origin=origin, syntax="json"))

    @classmethod
    def _from_document(cls, document: Document) -> Plan:
        content = document.content(FORMAT, VERSION, what="a plan")
        try:
            record = _PlanRecord.model_validate(content)
            return _from_record(record)
        except ValidationError as error:
            problems = problems_of(error, tuple(_PlanRecord.model_fields))
            raise SpecError([document.problem(message, location) for message, location in problems]) from error
        except (SpecError, VerificationError) as error:
            raise SpecError(document.problem(f"plan is not consistent: {error}")) from error

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the plan as JSON; the file is replaced as a whole or not at all.

        Raises
        ------
        SpecError
            The file cannot be written.
        """
        write(path, self.to_json())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Plan:
        """Return the plan saved in a file.

        Raises
        ------
        SpecError
            The file is not a plan.
        """
        return cls._from_document(read(path, max_mib=MAX_PLAN_MIB, syntax="json"))


_FLEET = TypeAdapter(Fleet)
_WORKLOADS = TypeAdapter(tuple[Workload, ...])


# -- the form of the file ----------------------------------------------------------------------------------------------


class _Record(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class _ObjectiveRecord(_Record):
    name: str
    value: int
    bound: int


FractionText = Annotated[str, Field(pattern=r"^-?\d{1,30}(/[1-9]\d{0,30})?$")]


class _PriceRecord(_Record):
    model: str
    fixed: str | None
    mode: str
    profile: str
    price: FractionText


class _RentRecord(_Record):
    model: str
    fixed: str | None
    rent: FractionText


class _UnplacedRecord(_Record):
    workload: str
    count: Annotated[int, Field(ge=1)]
    reason: str
    remedy: str


class _RatingRecord(_Record):
    """What one instance of a service does; `sources` are numbers in the plan's list of sources."""

    workload: str
    gpu: str
    mode: str
    profile: str
    throughput_rps: Annotated[float, Field(gt=0)]
    latency_ms: Annotated[float, Field(gt=0)] | None = None
    batch: Annotated[int, Field(ge=1)] | None = None
    processes: Annotated[int, Field(ge=1)] | None = None
    error: Annotated[float, Field(ge=0)]
    measured: bool = False
    sources: tuple[Annotated[int, Field(ge=0)], ...] = ()


class _FailoverRecord(_Record):
    failed_host: str
    workload: str
    replica: Annotated[int, Field(ge=0)]
    host: str
    gpu: Annotated[int, Field(ge=0)]
    mode: str
    profile: str
    start: Annotated[int, Field(ge=0)]


class _SpotRecord(_Record):
    host: str | None
    gpu: Annotated[int, Field(ge=0)]
    mode: str
    profile: str
    start: Annotated[int, Field(ge=0)]


class _MoveRecord(_Record):
    workload: str
    replica: Annotated[int, Field(ge=0)]
    origin: Annotated[_SpotRecord, Field(alias="from")]
    destination: Annotated[_SpotRecord | None, Field(alias="to")]


class _PlanRecord(_Record):
    """A saved plan."""

    format: Literal["gpu-partitioner/plan"]
    version: Literal[1]
    status: Literal["optimal", "feasible"]
    complete: bool
    gpus_used: int
    lower_bound: int
    certificate: str
    objective: tuple[str, ...] = ("placed", "gpus", "waste")
    host_failures: Annotated[int, Field(ge=0, le=1)] = 0
    objectives: tuple[_ObjectiveRecord, ...]
    prices: tuple[_PriceRecord, ...] = ()
    rents: tuple[_RentRecord, ...] = ()
    metrics: dict[str, Any] = {}
    unplaced: tuple[_UnplacedRecord, ...] = ()
    notes: tuple[str, ...] = ()
    gpu: str | None = None
    gpus: Annotated[int, Field(ge=1)] | None = None
    modes: tuple[str, ...] | None = None
    fleet: Fleet | None = None
    workloads: tuple[Workload, ...]
    sources: tuple[str, ...] = ()
    ratings: tuple[_RatingRecord, ...] = ()
    failover: tuple[_FailoverRecord, ...] = ()
    current: list[dict[str, Any]] | None = None
    moves: tuple[_MoveRecord, ...] = ()
    pinned: tuple[str, ...] = ()
    vacate: tuple[str, ...] = ()
    layout: list[dict[str, Any]]


def _from_record(record: _PlanRecord) -> Plan:
    if (record.fleet is None) == (record.gpu is None):
        raise SpecError("a plan is for a fleet or for GPUs of one model; give one of fleet and gpu")
    if not {"gpus"} <= set(record.objective) & {stage.name for stage in record.objectives}:
        raise SpecError("objective or objectives name no stage 'gpus'; every plan counts its GPUs")
    plan = Plan(
        record.workloads,
        record.fleet,
        record.gpu,
        record.gpus,
        record.modes,
        record.status,
        tuple(Objective(o.name, o.value, o.bound) for o in record.objectives),
        record.certificate,
        tuple(Unplaced(u.workload, u.count, u.reason, u.remedy) for u in record.unplaced),
        record.notes,
        Layout.from_data(record.layout),
        {((p.model, p.fixed), p.mode, p.profile): Fraction(p.price) for p in record.prices},
        {(r.model, r.fixed): Fraction(r.rent) for r in record.rents},
        record.objective,
        record.host_failures,
        _ratings_of(record),
        tuple(Failover(**move.model_dump()) for move in record.failover),
        None if record.current is None else Layout.from_data(record.current),
        record.pinned,
        record.vacate,
    )
    verify(plan)
    _check_moves(record, plan)
    claimed = (record.complete, record.gpus_used, record.lower_bound)
    if claimed != (plan.complete, plan.gpus_used, plan.lower_bound):
        raise SpecError(
            f"complete, gpus_used, lower_bound are {claimed}; the layout says {plan.complete, plan.gpus_used, plan.lower_bound}"
        )
    return plan


def _check_moves(record: _PlanRecord, plan: Plan) -> None:
    """Refuse moves that are not those between what ran before and the layout."""
    claimed = [_move_of(move) for move in record.moves]
    if sorted(map(str, claimed)) != sorted(map(str, plan.moves)):
        odd = next((move for move in claimed if move not in set(plan.moves)), None)
        what = f"moves names {odd}, which is none" if odd else f"moves has {len(claimed)} entries"
        raise SpecError(f"{what}; between current and layout there are {len(plan.moves)}")


def _move_of(record: _MoveRecord) -> Move:
    destination = None if record.destination is None else Spot(**record.destination.model_dump())
    return Move(record.workload, record.replica, Spot(**record.origin.model_dump()), destination)


def _move_data(move: Move) -> dict[str, Any]:
    destination = None if move.destination is None else asdict(move.destination)
    return {"workload": move.workload, "replica": move.replica, "from": asdict(move.origin), "to": destination}


def _rating_data(key: RatingKey, rating: Rating, number: Mapping[str, int]) -> dict[str, Any]:
    """Return the record of a rating, without what it has by default."""
    record = dict(zip(("workload", "gpu", "mode", "profile"), key, strict=True)) | asdict(rating)
    record["sources"] = [number[source] for source in rating.sources]
    return {name: value for name, value in record.items() if value is not None and value is not False}


def _ratings_of(record: _PlanRecord) -> dict[RatingKey, Rating]:
    ratings: dict[RatingKey, Rating] = {}
    for r in record.ratings:
        key = (r.workload, r.gpu, r.mode, r.profile)
        if key in ratings:
            raise SpecError(f"ratings: {r.workload!r} on {r.profile} of {r.gpu} stands twice")
        if any(at >= len(record.sources) for at in r.sources):
            raise SpecError(f"ratings: {r.workload!r} names source {max(r.sources)}; there are {len(record.sources)}")
        sources = tuple(record.sources[at] for at in r.sources)
        ratings[key] = Rating(r.throughput_rps, r.latency_ms, r.batch, r.processes, r.error, sources, r.measured)
    return ratings


def _check_time_limit(time_limit_s: object) -> None:
    if isinstance(time_limit_s, bool) or not isinstance(time_limit_s, int | float) or not 0 < time_limit_s <= _MOST_SECONDS:
        raise SpecError(f"time_limit_s is {time_limit_s!r}, not a number of seconds above 0 and at most {_MOST_SECONDS:,}")


_MOST_SECONDS = 1_000_000


def schema() -> dict[str, Any]:
    """Return the JSON schema of a saved plan."""
    return _PlanRecord.model_json_schema()
