"""The agents of one measurement: started together, ended together, whatever happens between.

Knows one measurement; writes nothing down.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from benchmarks.errors import BenchmarkError
from benchmarks.gpus import Sampler
from benchmarks.load.values import Load
from benchmarks.results import Repeat
from benchmarks.runner.casting import Measurement
from benchmarks.runner.hosts import Handle, Hosts
from benchmarks.runner.measuring import Member, Watch, measure
from benchmarks.runner.waiting import results


class Crew:
    """Agents whose servers are up, one for each instance.

    Parameters
    ----------
    measurement : what they are for.
    handles : of the agents, in the order of the instances.
    facts : of their servers, by name of the instance.
    """

    def __init__(self, measurement: Measurement, handles: Sequence[Handle], facts: Mapping[str, Mapping[str, str]]) -> None:
        self.measurement, self.handles, self.facts = measurement, tuple(handles), facts

    def repeat(self, loads: Sequence[Load], *, sampler: Sampler, seed: int, watch: Watch) -> Repeat:
        """Measure all instances at the same time, each with its load."""
        instances = self.measurement.scenario.instances
        members = [Member(*each) for each in zip(instances, self.handles, loads, strict=True)]
        return measure(members, warmup_s=self.measurement.study.warmup_s, sampler=sampler, seed=seed, watch=watch)

    def logs(self) -> dict[str, Mapping[str, bytes]]:
        """Return the logs of the last repeat by name of the instance; those of lost hosts are missing."""
        found: dict[str, Mapping[str, bytes]] = {}
        for instance, handle in zip(self.measurement.scenario.instances, self.handles, strict=True):
            try:
                found[instance.name] = handle.logs()
            except BenchmarkError:
                continue
        return found


@contextmanager
def crew(measurement: Measurement, hosts: Hosts) -> Iterator[Crew]:
    """Start all servers at once; give the agents; end them all, on every path.

    Raises
    ------
    ServerError
        A server does not start; those that did are ended.
    """
    tasks = measurement.tasks()
    handles: list[Handle] = []
    try:
        for instance in measurement.scenario.instances:
            handles.append(hosts.place(tasks[instance.name], host=instance.host))  # noqa: PERF401 - those before a failure count
        with ThreadPoolExecutor(len(handles), thread_name_prefix="server") as pool:
            starting = [pool.submit(handle.start) for handle in handles]
            try:
                facts = results(starting)
            except BaseException:
                _stop(handles)  # now, so that servers which are still starting are not waited for
                raise
        names = [instance.name for instance in measurement.scenario.instances]
        yield Crew(measurement, handles, dict(zip(names, facts, strict=True)))
    finally:
        _stop(handles)


def _stop(handles: Sequence[Handle]) -> None:
    """End agents, all at once; a second Ctrl-C meanwhile keeps none of them from being ended, and counts afterwards."""
    if not handles:
        return
    try:
        with ThreadPoolExecutor(len(handles), thread_name_prefix="stop") as pool:
            results([pool.submit(_stop_one, handle) for handle in handles])
    except KeyboardInterrupt:
        _stop(handles)  # perhaps not all were told; twice does nothing
        raise


def _stop_one(handle: Handle) -> None:
    with suppress(BenchmarkError):  # its host is lost, and what ran there with it
        handle.stop()
