"""A study from its first scenario to its last: what is missing is measured, each repeat is kept as soon as it is there.

Knows agents by their crew, and files by their journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from platform import python_version

from benchmarks.errors import BenchmarkError, IncomparableError
from benchmarks.gpus import sampler_for
from benchmarks.results import Metadata, Repeat, Result
from benchmarks.runner.casting import Measurement
from benchmarks.runner.crew import Crew, crew
from benchmarks.runner.devices import driver_version, settle
from benchmarks.runner.hosts import Hosts, LocalHosts
from benchmarks.runner.journal import Journal
from benchmarks.runner.measuring import SERVER_ENDED
from benchmarks.runner.searching import TOLERANCE, MaxRate, search
from benchmarks.scenarios import Scenario, Study
from partitioner.performance import Calibration

_START_S = 8.0  # that a crew takes to start, for the time left
_PACKAGES = ("gpu-partitioner", "tritonclient", "grpcio", "mlcommons-loadgen", "onnxruntime", "numpy")


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a study is.

    Parameters
    ----------
    done_s, total_s : measured and planned [s].
    text : what is done now.
    """

    done_s: float
    total_s: float
    text: str


Watcher = Callable[[Progress], None]


def run_study(
    study: Study,
    *,
    out: str | os.PathLike[str] | None = None,
    hosts: Hosts | None = None,
    calibration: Calibration | None = None,
    dcgm_url: str | None = None,
    progress: Watcher | None = None,
) -> tuple[Result, ...]:
    """Measure what a study asks for.

    Parameters
    ----------
    study : scenarios, models, modes, and how they are measured.
    out : folder in which every repeat is kept as soon as it is measured; what is there already is not measured again.
    hosts : where the instances run; None: on this machine.
    calibration : of emulated servers; None: the shipped one.
    dcgm_url : address of a DCGM exporter, for GPU metrics under MIG.
    progress : told how far it is.

    Returns
    -------
    One result for each scenario, model and mode, in the order of ``iter(study)``.

    Raises
    ------
    SpecError
        The study asks for what there is not; or `out` holds another study. Nothing was started.
    BenchmarkError
        A server does not start, a folder cannot be written, or all instances of a scenario failed. What was measured is kept.
    """
    where = hosts or LocalHosts()
    measurements = [_measurement(study, *each, calibration) for each in study]
    for measurement in measurements:
        measurement.tasks()  # complains about everything before anything is started
        _ = measurement.latency_bound_ms, measurement.batch
    journal = None if out is None else Journal(out)
    if journal is not None:
        journal.begin(study)
    told = _Told(progress or (lambda _progress: None), measurements)
    with nullcontext() if journal is None else journal.lock():
        return tuple(_Run(measurement, where, journal, dcgm_url, told).result() for measurement in measurements)


def resume(
    folder: str | os.PathLike[str],
    *,
    hosts: Hosts | None = None,
    calibration: Calibration | None = None,
    dcgm_url: str | None = None,
    progress: Watcher | None = None,
) -> tuple[Result, ...]:
    """Measure what is missing of a study that was begun in a folder; parameters and errors as of `run_study`."""
    study = Journal(folder).study()
    return run_study(study, out=folder, hosts=hosts, calibration=calibration, dcgm_url=dcgm_url, progress=progress)


def find_rates(
    study: Study,
    *,
    tolerance: float = TOLERANCE,
    hosts: Hosts | None = None,
    calibration: Calibration | None = None,
    progress: Watcher | None = None,
) -> tuple[MaxRate, ...]:
    """Find the highest valid rates of each scenario and model of a study in mode server.

    Parameters
    ----------
    study : of which the modes are not looked at.
    tolerance : how far apart the highest valid and the lowest failed rate may stay, relative.
    hosts, calibration, progress : as of `run_study`.

    Raises
    ------
    SpecError, BenchmarkError
        As of `run_study`.
    """
    where = hosts or LocalHosts()
    served = replace(study, modes=("server",), rate_per_s=None)
    measurements = [_measurement(served, *each, calibration) for each in served]
    told = _Told(progress or (lambda _progress: None), measurements)
    return tuple(_Run(measurement, where, None, None, told).rates(tolerance) for measurement in measurements)


def _measurement(study: Study, scenario: Scenario, model: str, mode: str, calibration: Calibration | None) -> Measurement:
    settled, device = settle(scenario, servers=study.servers, device=study.device)
    return Measurement(study, settled, model, mode, device, calibration)


class _Told:
    """What has been told of the time that is left."""

    def __init__(self, tell: Watcher, measurements: list[Measurement]) -> None:
        self._tell = tell
        self._done_s = 0.0
        self._total_s = sum(_START_S + m.study.repeats * _repeat_s(m) for m in measurements)

    def at(self, share: float, of_s: float, text: str) -> None:
        """Tell that a part which takes `of_s` is done to a share."""
        self._tell(Progress(self._done_s + share * of_s, self._total_s, text))

    def done(self, of_s: float) -> None:
        """Count a part as done."""
        self._done_s += of_s


def _repeat_s(measurement: Measurement) -> float:
    return measurement.study.duration_s + measurement.study.warmup_s + 2.0


class _Run:
    """One measurement with its repeats."""

    def __init__(
        self, measurement: Measurement, hosts: Hosts, journal: Journal | None, dcgm_url: str | None, told: _Told
    ) -> None:
        self.measurement, self.hosts, self.journal, self.told = measurement, hosts, journal, told
        self._before: list[Metadata] = []  # of repeats that an earlier process measured
        driver = driver_version() if measurement.device == "gpu" and measurement.study.servers != "external" else None
        self.driver = {} if driver is None else {"driver": driver}
        self.sampler = sampler_for(measurement.scenario.instances, device=measurement.device, dcgm_url=dcgm_url)

    def rates(self, tolerance: float) -> MaxRate:
        """Return the highest valid rates of the instances."""
        with crew(self.measurement, self.hosts) as members:
            return self._search(members, tolerance)

    def _search(self, members: Crew, tolerance: float = TOLERANCE) -> MaxRate:
        name = self.measurement.scenario.name
        return search(members, self.sampler, tolerance=tolerance, watch=lambda text: self.told.at(0.0, 0.0, f"{name}: {text}"))

    def result(self) -> Result:
        """Return all repeats, measuring those that are missing."""
        study, key = self.measurement.study, self.measurement.key
        found: dict[int, Result] = {}
        for number in range(1, study.repeats + 1):
            known = None if self.journal is None else self.journal.repeat(key, number)
            if known is not None and _whole(known.repeats[0]):
                found[number] = known
                self.told.done(_repeat_s(self.measurement))
        self._before = [known.metadata for known in found.values()]
        missing = [number for number in range(1, study.repeats + 1) if number not in found]
        rates: Mapping[str, float] | None = _rates_of(next(iter(found.values()))) if found else None
        while missing:
            missing, rates = self._measure(missing, rates, found)
        repeats = tuple(found[number].repeats[0] for number in sorted(found))
        result = Result(found[min(found)].metadata, repeats)
        if self.journal is not None:
            self.journal.finish(key, result)
        self.told.done(_START_S)
        return result

    def _measure(
        self, missing: list[int], rates: Mapping[str, float] | None, found: dict[int, Result]
    ) -> tuple[list[int], Mapping[str, float] | None]:
        """Measure repeats with one crew, until all are there or one of its instances fails; return what is left."""
        measurement = self.measurement
        with crew(measurement, self.hosts) as members:
            how = self._metadata(members)
            for before in self._before:
                _require_alike(before, how)
            if rates is None and measurement.mode == "server":
                rates = self._given_rates() or self._search(members).rates_per_s
            for done, number in enumerate(missing, 1):
                repeat = self._repeat(members, number, rates or {})
                found[number] = Result(how, (repeat,))
                if self.journal is not None:
                    self.journal.record(measurement.key, number, found[number], members.logs())
                self.told.done(_repeat_s(measurement))
                if not _whole(repeat):  # a new crew for the next one
                    return missing[done:], rates
        return [], rates

    def _given_rates(self) -> dict[str, float] | None:
        measurement = self.measurement
        given = {
            instance.name: measurement.study.rate_of(instance, measurement.model_name, gpu=measurement.scenario.gpu)
            for instance in measurement.scenario.instances
        }
        known = {name: rate for name, rate in given.items() if rate is not None}
        return known if len(known) == len(given) else None

    def _repeat(self, members: Crew, number: int, rates: Mapping[str, float]) -> Repeat:
        measurement = self.measurement
        loads = [
            measurement.load(i, repeat=number, rate_per_s=rates.get(instance.name))
            for i, instance in enumerate(measurement.scenario.instances)
        ]
        text = f"{measurement.scenario.name} {measurement.model_name} {measurement.mode}, repeat {number}"
        lasts_s = _repeat_s(measurement)
        self.told.at(0.0, lasts_s, text)
        repeat = members.repeat(
            loads,
            sampler=self.sampler,
            seed=measurement.seed(number),
            watch=lambda share: self.told.at(share, lasts_s, text),
        )
        if all(not run.queries for run in repeat.instances):
            reasons = "\n".join(reason for run in repeat.instances for reason in run.reasons)
            raise BenchmarkError(f"{measurement.scenario.name}: no instance could be measured\n{reasons}")
        return repeat

    def _metadata(self, members: Crew) -> Metadata:
        measurement, study = self.measurement, self.measurement.study
        scenario = measurement.scenario
        return Metadata(
            scenario=scenario.name,
            gpu=scenario.gpu,
            geometry=scenario.mode,
            profiles=scenario.profiles,
            mode=measurement.mode,
            model=measurement.model.name,
            servers=study.servers,
            device=measurement.device,
            engine=study.engine,
            batch=measurement.batch,
            concurrency=measurement.concurrency,
            seed=study.seed,
            rules=asdict(measurement.rules),
            software=_software(members.facts) | self.driver,
            host=dict(self.hosts.describe()),
        )


def _whole(repeat: Repeat) -> bool:
    """Whether every instance was measured to its end, valid or not; what was not is measured again when a study is resumed."""
    return all(run.queries and SERVER_ENDED not in run.facts for run in repeat.instances)


def _require_alike(before: Metadata, now: Metadata) -> None:
    """Refuse to add repeats to those that were measured on something else: their mean would be of nothing."""
    kinds = sorted(set(before.host.values())), sorted(set(now.host.values()))  # on other nodes of the same kind is alike
    differences = [f"device: {before.device!r} then, {now.device!r} now"] if before.device != now.device else []
    differences += [f"host: {kinds[0]} then, {kinds[1]} now"] if kinds[0] != kinds[1] else []
    for name in sorted(before.software.keys() & now.software.keys()):
        if before.software[name] != now.software[name]:
            differences.append(f"{name}: {before.software[name]} then, {now.software[name]} now")
    if differences:
        raise IncomparableError(
            f"{now.scenario} - its first repeats were measured otherwise; measure it anew in another folder", differences
        )


def _rates_of(result: Result) -> dict[str, float] | None:
    """Return the rates of a repeat that was measured before, so that all repeats have the same."""
    rates = {run.instance: run.rate_per_s for run in result.repeats[0].instances}
    known = {name: rate for name, rate in rates.items() if rate is not None}
    return known or None


def _software(facts: Mapping[str, Mapping[str, str]]) -> dict[str, str]:
    """Return the versions of what measures and what is measured."""
    found = {"python": python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    for server in facts.values():
        found.update({key: server[key] for key in ("triton", "onnxruntime", "torch") if key in server})
    return found
