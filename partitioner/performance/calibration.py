"""A calibration: measured points, and every figure that can be derived from them, each with its error and sources.

Knows tables, laws and queues; must not know workloads, fleets or plans.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import cache, cached_property
from importlib import resources

from partitioner import catalog
from partitioner.catalog import GpuModel
from partitioner.errors import SpecError, did_you_mean
from partitioner.geometry import Profile
from partitioner.performance import measured, table
from partitioner.performance.batches import Batches
from partitioner.performance.busy import BusyRatios
from partitioner.performance.measured import Measured
from partitioner.performance.points import (
    CalibrationError,
    Estimate,
    Point,
    Rating,
    check_bound,
    check_counts,
    check_scenario,
    resolve,
    shares,
)
from partitioner.performance.published import Published
from partitioner.performance.rating import Limits, best_batch, best_server, check_covered, published_offline

BOARDS = ("sxm", "pcie")


class Calibration:
    """Measured points of models on profiles, and what follows from them.

    Parameters
    ----------
    points : the measurements; no two with the same key.

    Raises
    ------
    SpecError
        Two points say the same thing twice.

    Examples
    --------
    >>> known = Calibration.default()
    >>> known.throughput("resnet50", "A100-80GB", "1g.10gb", batch=8, processes=1, busy=False).value
    358.277
    """

    def __init__(self, points: Iterable[Point]) -> None:
        self.points = tuple(points)
        if len({point.key for point in self.points}) != len(self.points):
            raise SpecError("calibration - two points have the same GPU, profile, model, batch, processes, scenario and state")
        self._batches: dict[tuple[str, str], Batches | None] = {}
        self._published: dict[tuple[str, str], Published | None] = {}
        self._known: dict[tuple[str, str, str, str | None], bool] = {}

    def __repr__(self) -> str:
        models = len(self.models())
        return f"Calibration({len(self.points)} points of {models} model{'s' * (models != 1)})"

    # -- where calibrations come from ------------------------------------------------------------------------------

    @staticmethod
    @cache
    def default(board: str = "sxm") -> Calibration:
        """Return the shipped calibration.

        Parameters
        ----------
        board : form of A100 and H100 whose published figures are taken, ``sxm`` or ``pcie``.

        Raises
        ------
        SpecError
            No such form of board.
        """
        if board not in BOARDS:
            raise SpecError(f"calibration - no figures of board {board!r}; {did_you_mean(board, BOARDS)}")
        folder = resources.files("partitioner.catalog").joinpath("calibration")
        names = ("parvagpu_a100_80gb.csv", "mlperf.csv", f"mlperf_{board}.csv")
        texts = [(name, folder.joinpath(name).read_text(encoding="utf-8")) for name in names]
        return Calibration(point for name, text in texts for point in table.parse(text, origin=name))

    @staticmethod
    def from_csv(path: str | os.PathLike[str]) -> Calibration:
        """Return the calibration in a CSV file; `partitioner.performance.table` describes its columns.

        Raises
        ------
        SpecError
            Everything that is wrong with the file, with its lines.
        """
        return Calibration(table.read(path))

    @staticmethod
    def from_results(results: Iterable[Measured], *, stand_ins: bool = False) -> Calibration:
        """Return the calibration that results of benchmarks are; `merge` it into another, so that the next plan uses it.

        Parameters
        ----------
        results : at least one `benchmarks.Result`, or another object with its ``points()``.
        stand_ins : take results of CPU slices and emulated GPUs too, for a rehearsal; the sources say what they are.

        Raises
        ------
        PartitionerError
            A result is INVALID, or was measured on a stand-in without leave (``IncomparableError`` of the benchmarks);
            there is none, or its GPU or profile is unknown (`SpecError`).
        """
        return Calibration(measured.points_of(results, stand_ins=stand_ins))

    def merge(self, other: Calibration) -> Calibration:
        """Return this calibration extended, and where they overlap overridden, by another.

        Where `other` has batch points of a model on a GPU and no scenario figures of it, published scenario figures of
        the same model on the same GPU give way too: they were measured on another software stack. So does the figure of an
        instance alone where `other` has that with all busy, and the other way round: the two would tell what neighbours cost.
        """
        taken = {point.key[:-1] for point in other.points}
        batches = {(p.model, p.gpu) for p in other.points if not p.scenario}
        batches -= {(p.model, p.gpu) for p in other.points if p.scenario}
        kept = [p for p in self.points if p.key[:-1] not in taken and not (p.scenario and (p.model, p.gpu) in batches)]
        return Calibration([*kept, *other.points])

    def to_csv(self) -> str:
        """Return the text of a calibration file with all points."""
        return table.dump(self.points)

    # -- what is known ---------------------------------------------------------------------------------------------

    @cached_property
    def _groups(self) -> dict[str, dict[str, list[Point]]]:
        found: dict[str, dict[str, list[Point]]] = {}
        for point in self.points:
            found.setdefault(point.model, {}).setdefault(point.gpu, []).append(point)
        return found

    @cached_property
    def _ratios(self) -> BusyRatios:
        return BusyRatios(self.points)

    def models(self) -> tuple[str, ...]:
        """Return the names of all models, sorted."""
        return tuple(sorted(self._groups))

    def model(self, name: str) -> str:
        """Return the name of the model that a spelling means; case does not matter.

        Raises
        ------
        CalibrationError
            The model is unknown; names near matches, and how to add it.
        """
        if name in self._groups:
            return name
        folded = [known for known in self._groups if known.casefold() == name.strip().casefold()]
        if len(folded) == 1:
            return folded[0]
        hint = did_you_mean(name, self.models())
        columns = ",".join(table.COLUMNS)
        raise CalibrationError(
            f"unknown model {name!r}; "
            + (f"{hint}; " if hint else "")
            + f"add your own measurements as CSV with the columns {columns}"
        )

    def gpus(self, model: str) -> tuple[str, ...]:
        """Return the GPUs on which a model was measured, sorted.

        Raises
        ------
        CalibrationError
            The model is unknown.
        """
        return tuple(sorted(self._groups[self.model(model)]))

    def profiles(self, model: str, gpu: str | GpuModel, *, scenario: str | None = None) -> tuple[str, ...]:
        """Return the profiles of a GPU that can be rated for a model without extrapolation.

        Parameters
        ----------
        model : name of the model.
        gpu : GPU, in any spelling.
        scenario : the scenario in which they are to be rated; None: any.

        Raises
        ------
        SpecError
            The model, the GPU or the scenario is unknown.
        """
        found = catalog.gpu(gpu)
        names = dict.fromkeys(profile.name for geometry in found.geometries for profile in geometry.profiles)
        return tuple(name for name in names if self.knows(model, found, name, scenario=scenario))

    def knows(self, model: str, gpu: str | GpuModel, profile: str, *, scenario: str | None = None) -> bool:
        """Return whether `best` can rate a profile for a model without extrapolation.

        Parameters
        ----------
        model, gpu, profile : as of `throughput`.
        scenario : the scenario in which it is to be rated; None: any.

        Raises
        ------
        SpecError
            The model, the GPU, the profile or the scenario is unknown.
        """
        if scenario is not None:
            check_scenario(scenario)
        found, shape = resolve(gpu, profile)
        if found.name not in self.gpus(model):
            return False
        key = (self.model(model), found.name, shape.name, scenario)
        if key not in self._known:
            self._known[key] = self._rateable(key[0], found, shape, scenario)
        return self._known[key]

    def _rateable(self, model: str, gpu: GpuModel, profile: Profile, scenario: str | None) -> bool:
        batches, published = self.batches(model, gpu), self.published(model, gpu)
        figures = [s for s in ("offline", "server") if scenario in (None, s)]
        if published is not None and any(published.covers(profile, s) for s in figures):
            return True
        if batches is None or (scenario == "server" and shares(gpu, profile) is None):
            return False
        return batches.covers(profile) and bool(batches.fitting(profile))

    def batches(self, model: str, gpu: str | GpuModel) -> Batches | None:
        """Return what is known of a model on a GPU from batches: points and law; None where there is no point."""
        found = catalog.gpu(gpu)
        key = (model, found.name)
        if key not in self._batches:
            points = [p for p in self._groups.get(model, {}).get(found.name, ()) if not p.scenario]
            self._batches[key] = Batches(found, model, points, self._ratios.of(model, found.name)) if points else None
        return self._batches[key]

    def published(self, model: str, gpu: str | GpuModel) -> Published | None:
        """Return what is known of a model on a GPU from scenarios; None where there is no figure."""
        found = catalog.gpu(gpu)
        key = (model, found.name)
        if key not in self._published:
            points = [p for p in self._groups.get(model, {}).get(found.name, ()) if p.scenario]
            ratio, least = self._ratios.of(model, found.name), self._least_memory(model)
            self._published[key] = Published(found, model, points, ratio, least) if points else None
        return self._published[key]

    def _least_memory(self, model: str) -> int:
        """Return the memory of the smallest profile of any GPU on which a scenario of a model was measured [MiB]."""
        places = {(p.gpu, p.profile) for group in self._groups.get(model, {}).values() for p in group if p.scenario}
        return min((catalog.gpu(gpu).profile(profile).memory_mib for gpu, profile in places), default=0)

    # -- figures ---------------------------------------------------------------------------------------------------

    def throughput(
        self,
        model: str,
        gpu: str | GpuModel,
        profile: str,
        *,
        batch: int | None = None,
        processes: int = 1,
        busy: bool = True,
        extrapolate: bool = False,
    ) -> Estimate:
        """Return the throughput of a model on one instance [1/s].

        Parameters
        ----------
        model : name of the model.
        gpu : GPU, in any spelling.
        profile : profile of it, in any spelling.
        batch : batch size of each process; None: the published offline figure, whose batch size is not known.
        processes : processes that share the instance; the figure is for all of them together.
        busy : all instances of the GPU are at work (cautious), not this one alone.
        extrapolate : answer outside the known range too, with a larger error.

        Raises
        ------
        CalibrationError
            The model is unknown or was not measured so, does not fit, or is outside the known range.
        SpecError
            GPU or profile is unknown, or a number out of range.
        """
        model, found, shape = self._resolve(model, gpu, profile)
        if batch is None:
            published = self.published(model, found)
            if published is None:
                raise CalibrationError(f"{model} on {found.name} - no offline figure was published; give batch= and processes=")
            return published.offline(shape, busy=busy, extrapolate=extrapolate)
        check_counts(batch=batch, processes=processes)
        return self._require_batches(model, found).throughput(shape, batch, processes, busy=busy, extrapolate=extrapolate)

    def latency_ms(
        self,
        model: str,
        gpu: str | GpuModel,
        profile: str,
        *,
        batch: int,
        processes: int = 1,
        busy: bool = True,
        extrapolate: bool = False,
    ) -> Estimate:
        """Return the latency of one batch [ms]; parameters and errors as of `throughput`."""
        model, found, shape = self._resolve(model, gpu, profile)
        check_counts(batch=batch, processes=processes)
        return self._require_batches(model, found).latency_ms(shape, batch, processes, busy=busy, extrapolate=extrapolate)

    def _resolve(self, model: str, gpu: str | GpuModel, profile: str) -> tuple[str, GpuModel, Profile]:
        model, (found, shape) = self.model(model), resolve(gpu, profile)
        known = self.gpus(model)
        if found.name not in known:
            raise CalibrationError(f"{model} - not measured on {found.name}; measured are {', '.join(known)}; add your own")
        return model, found, shape

    def _require_batches(self, model: str, gpu: GpuModel) -> Batches:
        batches = self.batches(model, gpu)
        if batches is None:
            raise CalibrationError(
                f"{model} on {gpu.name} - measured in scenarios only, at no batch size; ask for scenario 'server' or 'offline',"
                " or add measurements with a calibration file"
            )
        return batches

    # -- ratings ---------------------------------------------------------------------------------------------------

    def best(
        self,
        model: str,
        gpu: str | GpuModel,
        profile: str,
        *,
        latency_ms: float | None = None,
        scenario: str = "server",
        max_batch: int | None = None,
        max_processes: int | None = None,
        busy: bool = True,
        extrapolate: bool = False,
    ) -> Rating | None:
        """Return the best that one instance does for a model.

        Parameters
        ----------
        model, gpu, profile, busy, extrapolate : as of `throughput`.
        latency_ms : bound, of the 99th percentile (``server``) or of a batch (``batch``) [ms].
        scenario : ``offline``: highest throughput; ``batch``: highest throughput whose latency of a batch is
            within the bound; ``server``: highest rate of Poisson arrivals at which the 99th percentile is.
        max_batch, max_processes : largest batch and most processes allowed; published figures, which do not tell them,
            are then not used where points are.

        Returns
        -------
        None where the bound cannot be met; `lowest_latency` says which can.

        Raises
        ------
        CalibrationError
            The model is unknown, or was not measured on this GPU or near this profile.
        SpecError
            A spelling is unknown, or a number out of range.
        """
        check_scenario(scenario)
        check_bound(scenario, latency_ms)
        model, found, shape = self._resolve(model, gpu, profile)
        batches, published = self.batches(model, found), self.published(model, found)
        limited = batches is not None and not (max_batch is None and max_processes is None)
        if published is not None and scenario != "batch" and not limited:
            try:
                if scenario == "offline":
                    return published_offline(published.offline(shape, busy=busy, extrapolate=extrapolate))
                assert latency_ms is not None
                return published.server(shape, latency_ms, busy=busy, extrapolate=extrapolate)
            except CalibrationError:
                if batches is None:
                    raise
        batches = self._require_batches(model, found)
        check_covered(batches, shape, scenario, extrapolate=extrapolate)
        limits = Limits(max_batch, max_processes)
        if scenario == "server":
            assert latency_ms is not None
            return best_server(batches, shape, limits, latency_ms, busy=busy, extrapolate=extrapolate)
        return best_batch(batches, shape, limits, latency_ms, busy=busy, extrapolate=extrapolate)

    def lowest_latency(
        self, model: str, gpu: str | GpuModel, profile: str, *, scenario: str = "server", busy: bool = True
    ) -> float:
        """Return the lowest latency bound that one instance can keep at all [ms], in the scenario ``server`` or ``batch``.

        Raises
        ------
        CalibrationError
            As of `best`; or nothing fits into the profile.
        """
        model, found, shape = self._resolve(model, gpu, profile)
        batches, published = self.batches(model, found), self.published(model, found)
        if published is not None and published.covers(shape, "server") and scenario == "server":
            return published.lowest_ms(shape, busy=busy, extrapolate=False)
        batches = self._require_batches(model, found)
        check_covered(batches, shape, scenario, extrapolate=False)
        pairs = batches.fitting(shape)
        if not pairs:
            raise CalibrationError(f"{model} on {found.name} - does not fit into {shape.name} at any batch size measured")
        if scenario == "server":
            return min(1000 * float(batches.service_s(shape, p, busy=busy)(1.0)) for p in {p for _, p in pairs})
        return min(figures.latency_ms for figures in batches.figures(shape, busy=busy))
