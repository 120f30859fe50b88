"""Results of several scenarios side by side, against a baseline. Knows results that were measured alike, and no files."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from itertools import chain
from statistics import fmean
from typing import Any

from benchmarks.comparing import tables
from benchmarks.comparing.likeness import check_alike, groups_of, names_of
from benchmarks.comparing.relations import Fairness, Isolation, Scaling, fairness, isolation, scaling
from benchmarks.comparing.statistics import Change, change
from benchmarks.results.values import InstanceSummary, Latencies, Result
from partitioner.errors import SpecError, did_you_mean

_WH_PER_J = 1 / 3600


@dataclass(frozen=True, slots=True)
class Row:
    """One scenario of a comparison.

    Parameters
    ----------
    name : its scenario, and what else tells it apart where that stands twice.
    result : what was measured.
    change : against the baseline; None for the baseline itself, and where there is none.
    latency : percentiles, each of the instance that has the highest; None where an instance answered nothing.
    cost_per_million : price of a million samples, in the currency of the price of a GPU hour; None without one.
    energy_per_million_wh : energy of the GPUs for a million samples [Wh]; None where it was not measured.
    """

    name: str
    result: Result
    change: Change | None
    latency: Latencies | None
    cost_per_million: float | None
    energy_per_million_wh: float | None

    @property
    def valid(self) -> bool:
        """Whether the result counts."""
        return self.result.valid

    @property
    def throughput_per_s(self) -> float:
        """Samples a second of all instances, mean over the repeats [1/s]."""
        return self.result.system_throughput

    @property
    def instances(self) -> tuple[InstanceSummary, ...]:
        """Each instance over all repeats."""
        return self.result.instances


@dataclass(frozen=True, repr=False)
class Comparison:
    """Scenarios side by side.

    Parameters
    ----------
    rows : one for each result, in the order given.
    baseline : name of the row that the others are measured against; None where no result is valid.
    confidence : of the intervals.
    fairness, isolation, scaling : what the results say of equal instances, neighbours and numbers of instances.
    allowed : fields in which the results were allowed to differ.
    notes : remarks for the reader, such as why the first result is not the baseline.
    """

    rows: tuple[Row, ...]
    baseline: str | None
    confidence: float
    fairness: tuple[Fairness, ...]
    isolation: tuple[Isolation, ...]
    scaling: tuple[Scaling, ...]
    allowed: tuple[str, ...]
    notes: tuple[str, ...]

    @property
    def results(self) -> tuple[Result, ...]:
        """The results, in the order of the rows."""
        return tuple(row.result for row in self.rows)

    @property
    def best(self) -> Row | None:
        """The valid row with the highest system throughput; None where no result is valid."""
        return max((row for row in self.rows if row.valid), key=lambda row: row.throughput_per_s, default=None)

    @property
    def label(self) -> str:
        """What stood in for a GPU, for every output; empty where all was measured on GPUs."""
        return "; ".join(dict.fromkeys(row.result.label for row in self.rows if row.result.label))

    def row(self, name: str) -> Row:
        """Return the row of a name.

        Raises
        ------
        SpecError
            There is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        names = [row.name for row in self.rows]
        raise SpecError(f"scenario {name!r} - not among the results; {did_you_mean(name, names)}".removesuffix("; "))

    def to_text(self, *, width: int | None = None) -> str:
        """Return tables for a terminal.

        Parameters
        ----------
        width : columns of text; None takes the terminal's, or 120.
        """
        return tables.text(self, width=width)

    def to_csv(self) -> str:
        """Return one line for each scenario and one for each of its instances, with `tables.COLUMNS`."""
        return tables.csv_text(self)

    def to_data(self) -> dict[str, Any]:
        """Return the comparison as plain data, without the repeats."""
        return {
            "label": self.label,
            "baseline": self.baseline,
            "best": None if self.best is None else self.best.name,
            "confidence": self.confidence,
            "allowed": list(self.allowed),
            "notes": list(self.notes),
            "scenarios": [_data(row) for row in self.rows],
            "fairness": [asdict(entry) for entry in self.fairness],
            "isolation": [asdict(entry) for entry in self.isolation],
            "scaling": [asdict(entry) for entry in self.scaling],
        }

    def __repr__(self) -> str:
        best = "none valid" if self.best is None else f"best {self.best.name}"
        return f"Comparison({', '.join(row.name for row in self.rows)}; {best})"

    def __str__(self) -> str:
        return self.to_text()

    def _repr_html_(self) -> str:
        return tables.html(self)


def compare(
    results: Iterable[Result] | Result,
    baseline: str | Result | None = None,
    *,
    confidence: float = 0.95,
    allow: Sequence[str] = (),
    cost_per_gpu_hour: float | None = None,
) -> Comparison:
    """Put results of several scenarios side by side.

    Parameters
    ----------
    results : at least one, measured alike; each scenario once, or told apart by what is allowed to differ.
    baseline : what the others are measured against: a scenario by name, or a result, which joins the others; None: the
        first valid one.
    confidence : of the intervals of changes.
    allow : fields of the metadata that may differ although figures hang on them, e.g. ``host`` or ``software.driver``.
    cost_per_gpu_hour : price of one GPU for an hour, in any currency; whole GPUs are paid for, whatever part is at work.

    Raises
    ------
    IncomparableError
        They were not measured alike, or a scenario stands twice.
    SpecError
        There is no result, no such baseline or field, or a number is out of range.
    """
    chosen: list[Result] = [results] if isinstance(results, Result) else list(results)
    if isinstance(baseline, Result) and not any(baseline is result for result in chosen):
        chosen.insert(0, baseline)
    _check(chosen, cost_per_gpu_hour)
    allowed = (allow,) if isinstance(allow, str) else tuple(allow)
    check_alike(chosen, allowed)
    by_name = dict(zip(names_of(chosen, allowed), chosen, strict=True))
    against, notes = _baseline(by_name, baseline)
    groups = groups_of(by_name)
    return Comparison(
        tuple(_row(name, by_name, against, confidence, cost_per_gpu_hour) for name in by_name),
        against,
        confidence,
        tuple(chain.from_iterable(map(fairness, groups))),
        tuple(chain.from_iterable(map(isolation, groups))),
        tuple(chain.from_iterable(map(scaling, groups))),
        allowed,
        notes,
    )


def _check(results: Sequence[Result], cost_per_gpu_hour: float | None) -> None:
    if not results:
        raise SpecError("compare - no results; give at least one")
    for result in results:
        if not isinstance(result, Result):
            raise SpecError(f"compare - {result!r} is not a Result; read files with Result.load")
    if cost_per_gpu_hour is not None and not 0 <= cost_per_gpu_hour < math.inf:
        raise SpecError(f"cost_per_gpu_hour {cost_per_gpu_hour!r} - a finite number of at least 0 is wanted")


def _baseline(by_name: dict[str, Result], wanted: str | Result | None) -> tuple[str | None, tuple[str, ...]]:
    """Return the name of the baseline and what has to be said about it; an INVALID one is taken only when it is named."""
    invalid = [name for name, result in by_name.items() if not result.valid]
    notes = [f"{name} is INVALID and wins nothing: {'; '.join(by_name[name].reasons[:3])}" for name in invalid]
    if wanted is None:
        against = next((name for name in by_name if name not in invalid), None)
        first = next(iter(by_name))
        if against != first:
            notes.append(f"{first} is no baseline, being INVALID; {against or 'none'} is")
        return against, tuple(notes)
    found = [name for name, result in by_name.items() if wanted is result or wanted in (name, result.metadata.scenario)]
    if len(found) != 1:
        hint = did_you_mean(wanted, list(by_name)) if isinstance(wanted, str) else ""
        what = f"{len(found)} results are so called: {', '.join(found)}" if found else f"not among the results; {hint}"
        raise SpecError(f"baseline {wanted!r} - {what}".removesuffix("; "))
    if found[0] in invalid:
        notes.append(f"the baseline {found[0]} is INVALID: changes against it say nothing")
    return found[0], tuple(notes)


def _row(name: str, by_name: dict[str, Result], against: str | None, confidence: float, cost_per_gpu_hour: float | None) -> Row:
    result = by_name[name]
    changed = None
    if against is not None and name != against:
        rates, base = ([r.system_throughput for r in x.repeats] for x in (result, by_name[against]))
        changed = change(rates, base, confidence=confidence)
    rate = result.system_throughput
    cost = None if cost_per_gpu_hour is None or rate <= 0 else cost_per_gpu_hour * result.n_gpus / 3600 / rate * 1e6
    return Row(name, result, changed, _worst(result.instances), cost, _energy_wh(result))


def _worst(instances: Sequence[InstanceSummary]) -> Latencies | None:
    seen = [entry.latency for entry in instances if entry.latency is not None]
    if len(seen) < len(instances):
        return None
    return Latencies(*(max(getattr(latency, field.name) for latency in seen) for field in fields(Latencies)))


def _energy_wh(result: Result) -> float | None:
    """Return the energy of a million answered samples [Wh], over the whole of each run; None where it was not measured."""
    shares = []
    for repeat in result.repeats:
        answered = sum(run.samples * (1 - run.failed / run.queries) for run in repeat.instances if run.queries)
        if repeat.energy_j is None or answered <= 0:
            return None
        shares.append(repeat.energy_j / answered)
    return fmean(shares) * 1e6 * _WH_PER_J


def _data(row: Row) -> dict[str, Any]:
    return {
        "name": row.name,
        "scenario": row.result.metadata.scenario,
        "valid": row.valid,
        "reasons": list(row.result.reasons),
        "throughput_per_s": row.throughput_per_s,
        "spread": row.result.spread,
        "repeats": len(row.result.repeats),
        "change": None if row.change is None else asdict(row.change),
        "latency_ms": None if row.latency is None else asdict(row.latency),
        "cost_per_million": row.cost_per_million,
        "energy_per_million_wh": row.energy_per_million_wh,
        "instances": [asdict(entry) for entry in row.instances],
    }
