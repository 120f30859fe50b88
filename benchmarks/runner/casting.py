"""From a measurement to the agents that carry it out: which server each instance gets, on which cores, with which model.

Starts nothing. Knows no results.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.load.values import Load, Rules
from benchmarks.models.graphs import from_onnx
from benchmarks.models.model import BenchModel, model, names
from benchmarks.runner.agent import AgentTask
from benchmarks.runner.devices import visible
from benchmarks.scenarios import Instance, Scenario, Study
from benchmarks.servers import ServerTask
from benchmarks.servers.emulated_device import EmulatedDevice
from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.performance import Calibration

_BATCHES = {"gpu": 64, "cpu-slices": 4, "emulated": 32}
"""Samples in a request offline where the study does not say: on GPUs batches of 64 reach 94% of the bound."""
_EXTERNAL_S = 20.0
"""How long a server that runs already may take to answer, as one does that was restarted just now [s]."""
_IN_FLIGHT = {"gpu": 4, "cpu-slices": 2, "emulated": 4}
_LONGEST_NAME = 100  # of a scenario in names of files [bytes]: file systems take 255, and the rest needs its part


@dataclass(frozen=True)
class Measurement:
    """One scenario with one model in one mode, on a device that is settled.

    Parameters
    ----------
    study : what it is a part of.
    scenario : with the identifiers of its instances, on hardware.
    model_name, mode : what is run, and how.
    device : one of `benchmarks.runner.devices.DEVICES`.
    calibration : of emulated servers.
    """

    study: Study
    scenario: Scenario
    model_name: str
    mode: str
    device: str
    calibration: Calibration | None = None

    @cached_property
    def model(self) -> BenchModel:
        """What is run: one that is built here, an ONNX file, or a model of the user's own servers by its name there."""
        if self.model_name.endswith(".onnx"):
            return from_onnx(Path(self.model_name))
        theirs = self.study.servers == "external" or self.study.model_repository is not None
        return BenchModel.served(self.model_name) if theirs and self.model_name not in names() else model(self.model_name)

    @cached_property
    def _emulated(self) -> dict[str, EmulatedDevice]:
        """The emulated device of each profile; none where something real answers."""
        if self.device != "emulated":
            return {}
        busy, known = len(self.scenario.instances) > 1, self.calibration
        return {
            profile: EmulatedDevice.of(self.model, self.scenario.gpu, profile, known, busy=busy, extrapolate=True)
            for profile in dict.fromkeys(self.scenario.profiles)
        }

    @property
    def key(self) -> str:
        """Name of its files, e.g. ``4g+2g+1g.resnet50.offline``."""
        name = self.scenario.name.encode()
        if len(name) > _LONGEST_NAME:
            name = name[:_LONGEST_NAME] + b"-" + sha256(name).hexdigest()[:8].encode()
        return f"{name.decode(errors='ignore')}.{self.model.name}.{self.mode}"

    @property
    def batch(self) -> int:
        """Samples in a request.

        Raises
        ------
        SpecError
            The study asks for more than the model, or an emulated instance, takes.
        """
        if self.mode != "offline":
            return self.study.samples_per_query if self.mode == "multi_stream" else 1
        most = min((self.model.max_batch, *(emulated.max_batch for emulated in self._emulated.values())))
        if self.study.batch is not None and self.study.batch > most:
            raise SpecError(f"{self.scenario.name} with {self.model_name} - a batch of {self.study.batch}; at most {most} fits")
        return self.study.batch or min(_BATCHES[self.device], most)

    @property
    def concurrency(self) -> int:
        """Requests in flight, offline."""
        return self.study.concurrency or _IN_FLIGHT[self.device]

    @property
    def latency_bound_ms(self) -> float | None:
        """Bound on the latency in mode server [ms].

        Raises
        ------
        SpecError
            Neither study nor MLPerf has one.
        """
        if self.mode != "server":
            return None
        bound = self.study.latency_of(self.model_name) or self.model.latency_bound_ms
        if bound is None:
            raise SpecError(f"{self.model_name} in mode server - MLPerf has no bound on its latency; give latency_ms=")
        return bound

    @property
    def rules(self) -> Rules:
        """When a run counts."""
        study = self.study
        return Rules(
            min_duration_s=study.duration_s,
            min_samples=study.min_samples,
            min_queries=study.min_queries,
            latency_bound_ms=self.latency_bound_ms,
            percentile=study.percentile,
        )

    def load(self, number: int, *, repeat: int, rate_per_s: float | None = None) -> Load:
        """Return the load of one instance in one repeat; arrivals of no two of them are alike.

        Parameters
        ----------
        number : of the instance in the scenario, from 0.
        repeat : from 1; 0 is the search for a rate.
        rate_per_s : in mode server [1/s].
        """
        return Load(
            mode=self.mode,
            rules=self.rules,
            rate_per_s=rate_per_s,
            batch=self.batch,
            concurrency=self.concurrency,
            samples_per_query=self.study.samples_per_query,
            timeout_s=self.study.timeout_s,
            seed=self.seed(repeat, number),
        )

    def seed(self, repeat: int, number: int = 0) -> int:
        """Return the seed of an instance in a repeat."""
        return int(np.random.SeedSequence([self.study.seed, repeat, number]).generate_state(1)[0])

    def tasks(self) -> dict[str, AgentTask]:
        """Return what the agent of each instance has to do, by name of the instance.

        Raises
        ------
        SpecError
            An emulated instance is not in the calibration.
        """
        return {instance.name: self._task(instance) for instance in self.scenario.instances}

    def _task(self, instance: Instance) -> AgentTask:
        part = self._slice(instance) if self.device == "cpu-slices" else None
        environment = {} if self.study.servers == "emulated" else visible(instance.uuid or "")
        if self.study.servers == "inprocess":
            return AgentTask(
                name=instance.name,
                server=None,
                system=self.study.framework,
                model=self.model,
                engine=self.study.engine,
                cpu_slice=part,
                environment=environment,
            )
        return AgentTask(
            name=instance.name,
            server=self._server(instance),
            system="triton",
            model=self.model,
            engine=self.study.engine,
            cpu_slice=part,
            echo=self.study.servers == "triton" and self.study.model_repository is None,
        )

    def _server(self, instance: Instance) -> ServerTask:
        study = self.study
        task = ServerTask(
            name=instance.name,
            kind=study.servers,
            model=self.model,
            cuda_visible_devices=instance.uuid,
            repository=study.model_repository,
            address=study.address_of(self.scenario, instance),
            emulation=json.loads(self._emulated[instance.profile].to_json()) if self._emulated else {},
        )
        return replace(task, timeout_s=_EXTERNAL_S) if study.servers == "external" else task

    def _slice(self, instance: Instance) -> tuple[float, float]:
        """Return where the slice of the CPU begins that stands in for an instance, and how large it is, as shares.

        GPUs of a scenario with several divide the CPU evenly; on each, instances stand side by side in their order.
        """
        boards = self.scenario.gpus
        begin = 0.0
        for other, share in zip(self.scenario.instances, self.scenario.shares(), strict=True):
            if other.name == instance.name:
                return (boards.index(instance.board) + min(begin, 1 - share)) / len(boards), share / len(boards)
            begin += share if other.board == instance.board else 0.0
        raise KeyError(instance.name)
