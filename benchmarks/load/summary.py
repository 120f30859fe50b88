"""Figures of one run: rates and percentiles. Knows numbers only, not whether they count."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from benchmarks.load.log import RequestLog

_SHARES = {"p50": 0.50, "p90": 0.90, "p95": 0.95, "p99": 0.99, "p999": 0.999}


def percentile_of(values: npt.NDArray[np.float64], share: float) -> float:
    """Return the value at a percentile as LoadGen picks it: of n sorted ones the one at index floor(n * share).

    Raises
    ------
    IndexError
        There are no values.

    Examples
    --------
    >>> percentile_of(np.arange(100.0), 0.99)
    99.0
    """
    index = min(int(len(values) * share), len(values) - 1)
    return float(np.partition(values, index)[index])


def latencies(log: RequestLog) -> dict[str, float] | None:
    """Return min, mean, percentiles (``p50`` ... ``p999``) and max of the answered queries' latency [ms]; None if none was."""
    answered_ms = log.latency_s[~log.failed] * 1e3
    if not len(answered_ms):
        return None
    return {
        "min": float(answered_ms.min()),
        "mean": float(answered_ms.mean()),
        **{name: percentile_of(answered_ms, share) for name, share in _SHARES.items()},
        "max": float(answered_ms.max()),
    }


def slip_p99_ms(log: RequestLog) -> float:
    """Return the 99th percentile of the time by which queries left late [ms]; 0 without queries."""
    return percentile_of(log.slip_s, 0.99) * 1e3 if len(log) else 0.0


def throughput_per_s(log: RequestLog) -> float:
    """Return answered samples a second, from the common start to the last answer [1/s]; failed ones do not count."""
    return float(log.samples[~log.failed].sum()) / log.end_s if len(log) and log.end_s > 0 else 0.0


def window_throughput_per_s(log: RequestLog, *, begin_s: float, end_s: float) -> float:
    """Return answered samples a second within a window of the run [1/s].

    The samples answered so far are taken as growing evenly between one answer and the next, so that a batch counts on the
    side of the window's end on which it was worked on: counting answers alone would be wrong by up to a batch at each end.

    Parameters
    ----------
    log : of the run.
    begin_s, end_s : the window, after the common start [s].
    """
    if end_s <= begin_s or log.failed.all():
        return 0.0
    answered = ~log.failed
    order = np.argsort(log.done_s[answered], kind="stable")
    done_s = log.done_s[answered][order]
    total = np.cumsum(log.samples[answered][order], dtype=np.float64)
    last = np.append(done_s[1:] > done_s[:-1], True)  # of answers at one instant, the last has the count of them all
    curve_s, curve = np.append(0.0, done_s[last]), np.append(0.0, total[last])
    counted = np.interp([begin_s, end_s], curve_s, curve)
    return float(counted[1] - counted[0]) / (end_s - begin_s)


def cpu_us_per_request(log: RequestLog) -> float:
    """Return the CPU time of the generating process for each query [us]; 0 without queries."""
    return log.cpu_s / len(log) * 1e6 if len(log) else 0.0
