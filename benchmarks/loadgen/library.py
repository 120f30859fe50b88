"""The only door to LoadGen: settings in its words, one test, completions. Knows no event loop and no systems.

Its logs are four files of one folder. A Python exception in a callback of LoadGen ends the process, so callbacks given to
`run_test` must not raise.
"""

from __future__ import annotations

import atexit
import math
import os
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.errors import LoadGeneratorError
from benchmarks.load.early_stopping import fewest_queries
from benchmarks.load.values import Load
from benchmarks.loadgen.schedule import seeds

PREFIX = "mlperf_log_"
FILES = tuple(f"{PREFIX}{name}" for name in ("summary.txt", "detail.txt", "accuracy.json", "trace.json"))
"""LoadGen's own logs."""
DETAIL = FILES[1]

Issue = Callable[[list[int], list[int]], None]
"""Told the ids and the sample numbers of one or several queries, in LoadGen's thread."""
Complete = Callable[[Sequence[int]], None]
"""To be told the ids of samples that were answered, from any thread."""

_UNBOUNDED_NS = 10**15  # 11 days: LoadGen has no way to say that there is no bound
_OFFLINE_MARGIN = 1.5
"""On the rate expected offline: too few samples make a run INVALID, and an instance is faster once its neighbours are done."""

_BEARABLE_S = 5.0  # of queries in flight beyond the bound, before LoadGen ends a run in mode server that the system cannot bear

_one_test = threading.Lock()


def load_library() -> Any:
    """Import LoadGen.

    Raises
    ------
    LoadGeneratorError
        It is not installed.
    """
    try:
        import mlperf_loadgen
    except ImportError as error:
        message = f"LoadGen - cannot be imported: {error}; install it with pip install 'gpu-partitioner[bench]'"
        raise LoadGeneratorError(message) from error
    return mlperf_loadgen


def check_logs(folder: Path) -> None:
    """Make the folder of LoadGen's logs and see that each can be written; LoadGen itself says nothing where it cannot.

    Raises
    ------
    LoadGeneratorError
        The folder cannot be made, or a log cannot be written.
    """
    path = folder
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name in FILES:
            path = folder / name
            with path.open("wb") as file:
                file.write(b"\n" * 4096)  # a disk without room refuses a block, not a byte
                file.flush()
    except OSError as error:
        message = f"LoadGen - {path} cannot be written: {error.strerror or error}; make room, or name another folder for its logs"
        raise LoadGeneratorError(message) from error


def claim_test() -> None:
    """Claim the one test that LoadGen can run in a process; `run_test` gives it back.

    Raises
    ------
    LoadGeneratorError
        A test is running.
    """
    if not _one_test.acquire(blocking=False):
        raise LoadGeneratorError("LoadGen - a test is running in this process already; give each test a process of its own")


def completer() -> Complete:
    """Return what tells LoadGen of answered samples."""
    library = load_library()
    response, complete = library.QuerySampleResponse, library.QuerySamplesComplete

    def tell(ids: Sequence[int]) -> None:
        complete([response(sample, 0, 0) for sample in ids])

    return tell


def run_test(
    load: Load,
    *,
    expected_per_s: float,
    n_samples: int,
    folder: Path,
    trace: bool,
    issue: Issue,
    flush: Callable[[], None],
    loaded: Callable[[], None],
) -> None:
    """Run one claimed test; returns when LoadGen has seen every sample completed and has written its logs.

    Parameters
    ----------
    load : what is asked.
    expected_per_s : samples a second that are expected, of the modes other than server [1/s].
    n_samples : different samples.
    folder : of the logs; see `check_logs`.
    trace : whether LoadGen writes its trace, which costs time for every sample.
    issue : called for queries that are due; must not raise.
    flush : called when no more will be issued; must not raise.
    loaded : called before the queries are made, which is the last thing before the test starts; must not raise.
    """
    try:
        library = load_library()
        test = _settings(library, load, expected_per_s)
        output = library.LogOutputSettings()
        output.outdir, output.prefix = str(folder), PREFIX
        logs = library.LogSettings()
        logs.log_output, logs.enable_trace = output, trace
        sut = library.ConstructFastSUT(issue, flush)
        qsl = library.ConstructQSL(n_samples, n_samples, lambda _samples: loaded(), lambda _samples: None)
        # without a name for the audit's file, LoadGen would take settings from an audit.config in the working folder
        library.StartTestWithLogSettings(sut, qsl, test, logs, "")
        library.DestroyQSL(qsl)
        library.DestroyFastSUT(sut)
    finally:
        _one_test.release()


def leave_hard() -> None:
    """Have the process end at once with status 1 when it ends; with a test under way LoadGen's threads would abort it."""

    def leave() -> None:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(1)

    atexit.register(leave)


def _settings(library: Any, load: Load, expected_per_s: float) -> Any:
    rules, test = load.rules, library.TestSettings()
    test.mode = library.TestMode.PerformanceOnly
    test.min_duration_ms = min_duration_ms(load)
    test.min_query_count = rules.min_samples if load.mode == "offline" else fewest_queries(load)
    test.qsl_rng_seed, test.sample_index_rng_seed, test.schedule_rng_seed = seeds(load.seed)
    if load.mode == "offline":
        test.scenario = library.TestScenario.Offline
        test.offline_expected_qps = expected_per_s * _OFFLINE_MARGIN
    elif load.mode == "server":
        test.scenario = library.TestScenario.Server
        test.server_target_qps = load.rate_per_s
        assert load.rate_per_s is not None
        bound_ms = rules.latency_bound_ms
        test.server_target_latency_ns = _UNBOUNDED_NS if bound_ms is None else round(bound_ms * 1e6)
        test.server_target_latency_percentile = rules.percentile
        test.server_max_async_queries = math.ceil(load.rate_per_s * (_BEARABLE_S + (bound_ms or 0.0) / 1000)) + 10
        # queries that are due together come in one call; each keeps its own time, so that nothing is hidden
        test.server_coalesce_queries = True
    elif load.mode == "single_stream":
        test.scenario = library.TestScenario.SingleStream
        test.single_stream_expected_latency_ns = round(1e9 / expected_per_s)
    else:
        test.scenario = library.TestScenario.MultiStream
        test.multi_stream_samples_per_query = load.samples_per_query
        test.multi_stream_expected_latency_ns = round(1e9 * load.samples_per_query / expected_per_s)
    return test


def min_duration_ms(load: Load) -> int:
    """Return the shortest run as LoadGen takes it, in whole milliseconds [ms]."""
    return max(round(load.rules.min_duration_s * 1000), 1)
