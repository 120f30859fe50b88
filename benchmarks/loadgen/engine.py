"""MLPerf's LoadGen as an engine: it decides when queries leave, a relay carries them to any system.

LoadGen's test blocks, so it has a thread; one test at a time in a process. Knows no servers.
"""

from __future__ import annotations

import asyncio
import math
import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import numpy as np

from benchmarks.errors import LoadGeneratorError
from benchmarks.load.early_stopping import fewest_queries
from benchmarks.load.log import RequestLog, Seconds
from benchmarks.load.values import Load, Progress, System
from benchmarks.loadgen.detail import LoadGenVerdict, read_verdict
from benchmarks.loadgen.expectation import expected_rate
from benchmarks.loadgen.library import (
    DETAIL,
    check_logs,
    claim_test,
    completer,
    leave_hard,
    load_library,
    min_duration_ms,
    run_test,
)
from benchmarks.loadgen.relay import Relay
from benchmarks.loadgen.schedule import seeds, server_schedule
from partitioner.errors import SpecError

_SWITCH_S = 0.0005  # a thread that LoadGen wakes waits at most so long for the interpreter; Python's own is ten times that
_MAKING_S = 0.0003  # from the call of `loaded` to the first query, beside what each query and each sample of one takes
_MAKING_A_QUERY_S = 0.40e-6
_MAKING_A_SAMPLE_S = 0.08e-6
_ENDING_S = 0.5  # for LoadGen to end when the run is cancelled


class LoadGenEngine:
    """Sends the load that LoadGen asks for.

    Parameters
    ----------
    log_folder : where LoadGen writes its logs; made where it is not there, logs of an earlier run are overwritten.
    trace : whether LoadGen writes its trace as well, which costs time for every sample.

    Attributes
    ----------
    verdict : what LoadGen says of the last run; None before it.
    """

    def __init__(self, log_folder: str | os.PathLike[str], *, trace: bool = False) -> None:
        self.log_folder = Path(log_folder)
        self.trace = trace
        self.verdict: LoadGenVerdict | None = None

    async def run(self, system: System, load: Load, *, start_s: float, progress: Progress) -> RequestLog:
        """Wait for `start_s` (of `time.monotonic`), let LoadGen send the load, and return what was seen of each query.

        Parameters
        ----------
        system : what answers; it is open.
        load : what is asked; `rate_per_s` is, in modes other than server, the samples a second that are expected (None:
            measured here, before the start).
        start_s : the common start.
        progress : told from time to time how many samples are done.

        Raises
        ------
        LoadGeneratorError
            LoadGen is not installed, runs a test in this process already, cannot write its logs, or has another schedule than
            is known; or the system raised something that no system should.
        SpecError
            The rate is not above 0.

        Notes
        -----
        A failed request is completed towards LoadGen, which cannot tell it from an answer: `RequestLog.failed` can. Where
        nothing is answered any more, the run is given up as by `benchmarks.load.engine`. A cancelled run may leave LoadGen's
        thread behind for some seconds; a process that ends before it does so with status 1.
        """
        load_library()
        check_logs(self.log_folder)
        self.verdict = None
        expected_per_s = load.rate_per_s if load.rate_per_s is not None else await expected_rate(system, load)
        if not 0 < expected_per_s < math.inf:
            raise SpecError(f"LoadGen - a rate of {expected_per_s:g} queries a second cannot be sent; give one above 0")
        schedule = _schedule(load)
        relay = Relay(system, load, completer(), planned=0 if schedule is None else len(schedule))
        making_s = _making_s(load, expected_per_s) if schedule is None else _MAKING_S + _MAKING_A_QUERY_S * len(schedule)

        def loaded() -> None:
            time.sleep(max(start_s - making_s - time.monotonic(), 0.0))

        def test() -> None:
            run_test(
                load,
                expected_per_s=expected_per_s,
                n_samples=system.n_samples,
                folder=self.log_folder,
                trace=self.trace,
                issue=relay.issue,
                flush=relay.flush,
                loaded=loaded,
            )

        cpu_s, loop_cpu_s, switch_s = time.process_time(), time.thread_time(), sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        try:
            await _follow(relay, test, progress)
        finally:
            sys.setswitchinterval(switch_s)
        cpu_s, loop_cpu_s = time.process_time() - cpu_s, time.thread_time() - loop_cpu_s
        progress(relay.samples_done)
        if relay.broken is not None:
            message = f"LoadGen engine - the system raised {relay.broken!r}; a system may raise RequestError only"
            raise LoadGeneratorError(message) from relay.broken
        said = read_verdict(self.log_folder / DETAIL)
        self.verdict = said if relay.given_up is None or relay.overloaded else _given_up(said, relay.given_up)
        if schedule is not None:
            _check_schedule(said.figures.get("generated_query_count"), schedule)
        return replace(_log(relay, schedule, start_s), cpu_s=cpu_s, loop_cpu_s=loop_cpu_s)


async def _follow(relay: Relay, test: Callable[[], None], progress: Progress) -> None:
    """Run LoadGen's test in a thread to its end."""
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()

    def tell(failure: Exception | None) -> None:
        if ended.done():
            return
        if failure is None:
            ended.set_result(None)
        else:
            ended.set_exception(failure)

    def run() -> None:
        failure: Exception | None = None
        try:
            test()
        except Exception as error:  # noqa: BLE001 - raised where the run is awaited
            failure = LoadGeneratorError(f"LoadGen - it cannot run this load: {error}")
            failure.__cause__ = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, failure)

    claim_test()
    # a daemon: a process that leaves in the middle of a test must not wait for the schedule's end
    threading.Thread(target=run, name="LoadGen", daemon=True).start()
    watch = asyncio.create_task(relay.watch(progress))
    try:
        await asyncio.wait((ended, watch), return_when=asyncio.FIRST_COMPLETED)
        (ended if ended.done() else watch).result()
    except BaseException:
        relay.give_up("the run was broken off")
        await asyncio.wait((ended,), timeout=_ENDING_S)
        if not ended.done():
            leave_hard()
        raise
    finally:
        watch.cancel()


def _schedule(load: Load) -> Seconds | None:
    """Return when queries are due after the start of mode server [s]; the other modes have no schedule."""
    if load.mode != "server":
        return None
    assert load.rate_per_s is not None
    return server_schedule(
        seeds(load.seed)[2],
        load.rate_per_s,
        min_duration_s=min_duration_ms(load) / 1000,
        min_queries=fewest_queries(load),
    )


def _making_s(load: Load, expected_per_s: float) -> float:
    """Return how long LoadGen makes its queries: offline one with all samples; of the streams twice as many as it expects."""
    samples = expected_per_s * load.rules.min_duration_s
    if load.mode == "offline":
        return _MAKING_S + _MAKING_A_SAMPLE_S * max(samples, load.rules.min_samples)
    size = load.samples_per_query if load.mode == "multi_stream" else 1
    return _MAKING_S + _MAKING_A_QUERY_S * max(2 * samples / size, fewest_queries(load))


def _log(relay: Relay, schedule: Seconds | None, start_s: float) -> RequestLog:
    """Put down what was seen; in mode server a query is due at LoadGen's start plus its place in the schedule."""
    rows = len(relay.sent_s)
    began_s = relay.calls_s[0] if relay.calls_s else time.monotonic()
    due_s = np.array(relay.due_s)
    if schedule is not None and rows:
        # no query is issued before it is due, so that the most punctual call shows when LoadGen started
        began_s = float(np.min(np.array(relay.calls_s) - schedule[np.array(relay.call_starts)]))
        due_s = began_s + schedule[:rows]
    failed = np.zeros(rows, dtype=np.bool_)
    failed[relay.failed] = True
    return RequestLog(
        began_s=began_s,
        due_s=due_s - start_s,
        sent_s=np.array(relay.sent_s) - start_s,
        done_s=np.array(relay.done_s) - start_s,
        samples=np.array(relay.samples, dtype=np.int64),
        failed=failed,
        cpu_s=0.0,
        failures=tuple(relay.failures.most_common(10)),
    )


def _check_schedule(generated: float | None, schedule: Seconds) -> None:
    if generated is not None and generated != len(schedule):
        message = (
            f"LoadGen - it made a schedule of {generated:.0f} queries, as this release computes it it has {len(schedule)}; "
            "the schedule of mlcommons-loadgen 6.0 is known"
        )
        raise LoadGeneratorError(message)


def _given_up(said: LoadGenVerdict, why: str) -> LoadGenVerdict:
    """Return the verdict on a run that does not count, whatever LoadGen thinks of it."""
    reason, advice = f"LoadGen: the run was given up: {why}", "see what became of the server, then run again"
    return LoadGenVerdict(valid=False, reasons=(reason,), advice=(advice,), figures=said.figures)
