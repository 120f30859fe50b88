"""From the readings of a run to its means and its energy. Knows numbers only."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from benchmarks.gpus.places import Places
from benchmarks.gpus.values import ENERGY, OF_THE_BOARD, Device, Reading


@dataclass(frozen=True, slots=True)
class Sample:
    """All devices at one moment (`time.monotonic`) [s]."""

    at_s: float
    readings: tuple[Reading, ...]

    def values(self, device: Device) -> Mapping[str, float]:
        """Return what was read of a device; nothing where it was not seen."""
        return next((reading.values for reading in self.readings if reading.device == device), {})


def means(samples: Sequence[Sample], device: Device) -> dict[str, float]:
    """Return the mean of each metric of a device over the samples that have it."""
    seen: dict[str, list[float]] = {}
    for sample in samples:
        for name, value in sample.values(device).items():
            if name != ENERGY:
                seen.setdefault(name, []).append(value)
    return {name: fmean(values) for name, values in seen.items()}


def of_instances(samples: Sequence[Sample], places: Places) -> dict[str, dict[str, float]]:
    """Return the means of each instance; what there is of its GPU only has the prefix ``gpu_``, unless it is all of it."""
    found = {}
    for name, device in places.items():
        own = means(samples, device)
        if device.gpu_instance is not None:
            board = means(samples, Device(device.gpu))
            own |= {f"gpu_{metric}": value for metric, value in board.items() if metric in OF_THE_BOARD}
        found[name] = own
    return found


def energy(samples: Sequence[Sample], gpus: Iterable[str], duration_s: float) -> tuple[float | None, tuple[str, ...]]:
    """Return the energy of GPUs over a run [J], None where it is not known of each of them, and notes.

    Parameters
    ----------
    samples : of the run.
    gpus : UUIDs.
    duration_s : of the run, which the samples need not cover exactly [s].

    Notes
    -----
    Power is what a GPU's counter grew by over the time between two of its changes. An exporter that collects rarely lets the
    counter stand still; where it did not change twice, the mean power is taken, with a note.
    """
    total, notes = 0.0, []
    for gpu in gpus:
        counted = [(s.at_s, s.values(Device(gpu))[ENERGY]) for s in samples if ENERGY in s.values(Device(gpu))]
        power_w = _growth(counted)
        if power_w is None:
            power_w = means(samples, Device(gpu)).get("power_w")
            if power_w is None:
                return None, (f"{gpu}: neither energy nor power was read; the energy of the run is not known",)
            notes.append(
                f"{gpu}: its energy counter changed less than twice in the run, so mean power times duration is taken;"
                " an exporter collects every 30 s unless it is started with -c 1000"
            )
        total += power_w * duration_s
    return total, tuple(notes)


def _growth(counted: Sequence[tuple[float, float]]) -> float | None:
    """Return by what a counter grew in a second; None where it did not change often enough to say."""
    changes = [now for before, now in pairwise(counted) if now[1] != before[1]]
    if any(now[1] < before[1] for before, now in pairwise(counted)):
        return None  # the driver was loaded again
    if changes and len(changes) == len(counted) - 1:
        changes.insert(0, counted[0])  # fresh at each reading, so the first one was fresh too
    if len(changes) < 2:
        return None
    (first_s, first), (last_s, last) = changes[0], changes[-1]
    return (last - first) / (last_s - first_s)
