"""What neighbours cost: throughput with all instances of a GPU at work, against one at work alone (power, clocks).

The ratio comes from pairs of published or own figures that differ in nothing else. Knows points, no laws.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median

from partitioner.performance.points import Point

_SAME_NETWORK = {"bert": "bert-99"}  # another software stack, the same network
_UNKNOWN_ERROR = 0.05  # of a ratio that is borrowed from another model or GPU
_NOWHERE_MEASURED = 0.9  # between the .80 of BERT on A30 and the .99 of small networks on A100, MLPerf Inference v1.1-v2.1


@dataclass(frozen=True, slots=True)
class Ratio:
    """Throughput busy over alone, its relative error, and where it comes from."""

    value: float
    error: float
    source: str


class BusyRatios:
    """Ratios by GPU and model, from all pairs in a set of points.

    Parameters
    ----------
    points : those that were measured alone and those that were measured busy.
    """

    def __init__(self, points: Iterable[Point]) -> None:
        pairs: dict[tuple[object, ...], dict[bool, Point]] = {}
        for point in points:
            if point.fits and point.scenario != "server":  # server rates hang on more than speed
                pairs.setdefault(point.key[:-1], {})[point.busy] = point
        found: dict[tuple[str, str], list[float]] = {}
        for pair in pairs.values():
            if len(pair) == 2:
                value = min(1.0, pair[True].throughput_per_s / pair[False].throughput_per_s)
                found.setdefault((pair[True].gpu, pair[True].model), []).append(value)
        self._by_model = {key: median(values) for key, values in found.items()}

    def of(self, model: str, gpu: str) -> Ratio:
        """Return the ratio of a model on a GPU; where none was measured, a cautious one of other models on the GPU."""
        for name in (model, _SAME_NETWORK.get(model, model)):
            if (gpu, name) in self._by_model:
                return Ratio(self._by_model[gpu, name], 0.02, f"busy/alone of {name} on {gpu}")
        others = {name: value for (on, name), value in self._by_model.items() if on == gpu}
        if others:
            return Ratio(median(others.values()), _UNKNOWN_ERROR, f"median busy/alone of {len(others)} models on {gpu}")
        return Ratio(_NOWHERE_MEASURED, _UNKNOWN_ERROR, "busy/alone assumed, measured on no such GPU")
