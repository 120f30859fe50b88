"""A comparison, or several, as one HTML page that needs nothing else: no script, nothing to load, light and dark, to be printed.

What was measured on a stand-in for a GPU says so in a banner and in every plot, what is INVALID says so with reasons and advice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.comparing import Comparison, Row
from benchmarks.comparing.tables import remarks, sections
from benchmarks.feedback import Deviation, deviations
from benchmarks.reporting import plots
from benchmarks.reporting.compared import Compared, compared
from benchmarks.reporting.page import Rows, box, complaints, facts, figures, page, part, table
from benchmarks.reporting.plots_axes import svg
from benchmarks.reporting.tables import circumstances, gpu_metrics, quality
from benchmarks.results.values import LABELS, Result
from partitioner.documents import write
from partitioner.errors import SpecError
from partitioner.report.section import rate

if TYPE_CHECKING:
    from partitioner.performance import Calibration

_MEANING = {
    "cpu-slices": "Each instance was given its share of a CPU's cores. Inference was real, and took place on no GPU: compare"
    " these figures with one another at most, never with those of a GPU.",
    "emulated": "No inference took place. The servers waited as long as the calibration says an inference takes: these figures"
    " are a rehearsal of the measurement, not a measurement.",
}
_ON = {"cpu-slices": "CPU slices in the shares of ", "emulated": "an emulated "}
_NO_UTILISATION = "NVML does not tell how busy MIG instances are; DCGM's profiling fields (DCGM_FI_PROF_*) do."


Reported = Compared | Sequence[Comparison]
"""What a report is of: a comparison, results that can be compared, or several comparisons, say of one model each."""


def report(results: Reported, *, title: str | None = None, calibration: Calibration | None = None) -> str:
    """Return the report of a comparison, or of several one after the other, as HTML; the same input gives the same text.

    Parameters
    ----------
    results : a comparison, results that can be compared, or comparisons.
    title : heading of the page; None: models, modes and GPUs, or what stood in for them.
    calibration : what predictions are made from; None: the shipped one, and none for CPU slices, which it does not know.

    Raises
    ------
    SpecError
        There are no results.
    IncomparableError
        They were not measured alike.
    BenchmarkError
        matplotlib or SciPy is not installed.
    """
    comparisons = _comparisons(results)
    if len(comparisons) == 1:
        return page(title or _title(comparisons[0]), _parts(comparisons[0], calibration))
    parts = []
    for number, comparison in enumerate(comparisons, 1):
        parts += [part(_title(comparison)), *_parts(comparison, calibration, name=f"part{number}", level=3)]
    labels = dict.fromkeys(comparison.label for comparison in comparisons if comparison.label)
    return page(title or "Benchmarks", [facts([*labels, f"{len(comparisons)} comparisons"]), *parts])


def save_report(
    results: Reported,
    path: str | os.PathLike[str],
    *,
    title: str | None = None,
    calibration: Calibration | None = None,
) -> None:
    """Write a report to a file, as a whole or not at all; parameters and errors as of `report`.

    Raises
    ------
    SpecError
        The file cannot be written, or there are no results.
    """
    write(path, report(results, title=title, calibration=calibration))


def _comparisons(results: Reported) -> list[Comparison]:
    if isinstance(results, Comparison):
        return [results]
    several = [entry for entry in results if isinstance(entry, Comparison)]
    plain = [entry for entry in results if isinstance(entry, Result)]
    return [*several, compared(plain)] if plain or not several else several


def _title(comparison: Comparison) -> str:
    how = comparison.rows[0].result.metadata
    return f"{how.model}, {how.mode}, on {_ON.get(how.device, '')}{how.gpu}"


def _parts(comparison: Comparison, calibration: Calibration | None, *, name: str = "part", level: int = 2) -> list[str]:
    """Return the parts of a page that are about one comparison; `name` goes in front of the ids of its pictures."""
    off, no_prediction = _deviations(comparison, calibration)
    metrics = gpu_metrics(comparison)
    verdict, *others = remarks(comparison)
    tables: dict[str, Rows] = dict(sections(comparison))
    tables["prediction against measurement"] = [_prediction(entry, row) for row, entry in off]
    tables["GPU metrics, mean of the run"] = metrics
    tables["quality of the measurement, worst of all repeats"] = quality(comparison)
    tables["how it was measured"] = circumstances(comparison)
    after = {"prediction against measurement": box(no_prediction or _notes(off))}
    if metrics and not any("SM active" in row for row in metrics):
        after["GPU metrics, mean of the run"] = box([_NO_UTILISATION])
    return [
        facts(_facts(comparison)),
        *(box([_MEANING[device]], kind="note", strong=LABELS[device]) for device in _stand_ins(comparison)),
        box([note for note in others if "INVALID" not in note], strong=verdict[:1].upper() + verdict[1:]),
        complaints(_invalid(comparison)),
        figures(_pictures(comparison, off, name)),
        *(table(heading, rows, level=level) + after.get(heading, "") for heading, rows in tables.items()),
    ]


def _facts(comparison: Comparison) -> list[str]:
    how = comparison.rows[0].result.metadata
    repeats = sorted({len(row.result.repeats) for row in comparison.rows})
    days = sorted({repeat.began[:10] for row in comparison.rows for repeat in row.result.repeats})
    found = [f"servers: {how.servers}", f"load generator: {how.engine}"]
    found += [f"batch {how.batch}", f"{how.concurrency} requests in flight"] if how.mode == "offline" else []
    found.append(f"{' to '.join(map(str, repeats))} repeat{'' if repeats == [1] else 's'}")
    found.append(" to ".join(dict.fromkeys((days[0], days[-1]))))
    return [comparison.label, *found] if comparison.label else found


def _stand_ins(comparison: Comparison) -> list[str]:
    devices = dict.fromkeys(row.result.metadata.device for row in comparison.rows)
    return [device for device in devices if device in LABELS]


def _invalid(comparison: Comparison) -> dict[str, list[str]]:
    found = {}
    for row in comparison.rows:
        if not row.valid:
            advice = [f"What to do: {line}" for line in row.result.advice]
            found[f"{row.name} is INVALID: it does not count"] = [*row.result.reasons, *advice]
    return found


def _pictures(comparison: Comparison, off: Sequence[tuple[Row, Deviation]], prefix: str) -> dict[str, str]:
    drawn = {"System throughput of each scenario": plots.throughput(comparison)}
    drawn["Latency of each scenario"] = plots.latency(comparison)
    mixed = [row for row in comparison.rows if len(row.instances) > 1]
    if mixed:
        shown = max(mixed, key=lambda row: (row.valid, row.throughput_per_s))
        one = [row for row in comparison.rows if row is shown]
        drawn[f"Latency of each instance of {shown.name}"] = plots.latency(_only(comparison, one), by="instance")
    if plots.equals(comparison):
        drawn["Throughput over the number of equal instances"] = plots.scaling(comparison)
    predicted = {
        row.name: (entry.prediction.throughput_per_s, entry.prediction.error or 0.0)
        for row, entry in off
        if entry.prediction.throughput_per_s is not None
    }
    if predicted:
        drawn["Prediction against measurement"] = plots.prediction(comparison, predicted)
    return {name: svg(ax, name=f"{prefix}-plot{number}", themed=True) for number, (name, ax) in enumerate(drawn.items())}


def _only(comparison: Comparison, rows: Sequence[Row]) -> Comparison:
    return Comparison(tuple(rows), None, comparison.confidence, (), (), (), comparison.allowed, ())


def _deviations(comparison: Comparison, calibration: Calibration | None) -> tuple[list[tuple[Row, Deviation]], list[str]]:
    """Return how far each scenario is from its prediction, and why there are none where there are none."""
    if calibration is None and "cpu-slices" in _stand_ins(comparison):
        return [], ["No prediction: the shipped calibration is of GPUs; give one of earlier results of these CPU slices."]
    try:
        found = deviations(comparison.results, calibration=calibration)
    except SpecError as error:  # a GPU that the catalogue does not have can be measured all the same
        return [], [f"No prediction: {error}"]
    if any(entry.prediction.throughput_per_s is not None for entry in found):
        return list(zip(comparison.rows, found, strict=True)), []
    reasons = dict.fromkeys(reason for entry in found for reason in entry.prediction.reasons)
    return [], [f"No prediction: {reason}" for reason in list(reasons)[:3]]


def _notes(off: Sequence[tuple[Row, Deviation]]) -> list[str]:
    """Return what the predictions have to say for themselves, each once; INVALID ones are marked in their lines."""
    notes = dict.fromkeys(note for _, entry in off for note in entry.notes if not note.startswith("INVALID"))
    return [note[:1].upper() + note[1:] + "." for note in notes]


def _prediction(entry: Deviation, row: Row) -> dict[str, str]:
    expected, error = entry.prediction.throughput_per_s, entry.prediction.error
    within = {True: "yes", False: "no", None: "-"}[entry.within]
    return {
        "scenario": row.name if row.valid else f"{row.name} INVALID",
        "predicted [samples/s]": "-" if expected is None else rate(expected),
        "its error": "-" if error is None else f"{error:.1%}",
        "measured [samples/s]": rate(entry.measured_per_s),
        "measured over predicted": "-" if entry.ratio is None else f"{entry.ratio:.3f}",
        "within the errors": within,
        "why not": "; ".join(entry.prediction.reasons),
    }
