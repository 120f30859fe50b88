"""A scenario: a named configuration of one GPU, or of a few, that is measured as a whole. Knows no servers and no load."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ConfigDict, TypeAdapter, ValidationError

from benchmarks.scenarios.names import named, short_name
from benchmarks.scenarios.placing import mode_of, placed
from partitioner import catalog
from partitioner.boundary import VALUE
from partitioner.documents import format_location, problems_of
from partitioner.errors import Problem, SpecError, did_you_mean
from partitioner.layout import gpu_label

if TYPE_CHECKING:
    from partitioner.layout import Layout
    from partitioner.plans import Plan


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance of a scenario.

    Parameters
    ----------
    name : unique in the scenario: its profile, with ``#2`` and so on for further ones of the same profile.
    profile : its profile, as the catalogue spells it.
    gpu : index of its GPU in the scenario, or in its host.
    start : first unit of its placement.
    host : its host; None: wherever the scenario runs.
    uuid : what CUDA_VISIBLE_DEVICES takes for it (``MIG-...``, ``GPU-...``); None where it is no hardware (yet).
    """

    __pydantic_config__: ClassVar[ConfigDict] = VALUE  # for files

    name: str
    profile: str
    gpu: int = 0
    start: int = 0
    host: str | None = None
    uuid: str | None = None

    @property
    def board(self) -> tuple[str | None, int]:
        """The GPU it is on: (host, index)."""
        return self.host, self.gpu


@dataclass(frozen=True, slots=True)
class Scenario:
    """A named configuration to be measured: instances that run at the same time.

    Parameters
    ----------
    name : how it is called in tables, e.g. ``4g+2g+1g``.
    gpu : name of the GPU model in the catalogue.
    mode : geometry that the GPUs use (``mig``, ``whole``, ``vgpu-equal-16``, ...); of GPUs in several, all with ``+`` between.
    instances : at least one, sorted by host, GPU and start.

    Raises
    ------
    SpecError
        There is no instance, a name stands twice or cannot name a file, or the instances of a GPU cannot be on it together.

    Examples
    --------
    >>> scenario = Scenario.parse("4g + 2g + 1g")
    >>> print(scenario, scenario.profiles, [round(share, 2) for share in scenario.shares()])
    4g+2g+1g ('4g.40gb', '2g.20gb', '1g.10gb') [0.57, 0.29, 0.14]
    """

    __pydantic_config__: ClassVar[ConfigDict] = VALUE

    name: str
    gpu: str
    mode: str
    instances: tuple[Instance, ...]

    def __post_init__(self) -> None:
        if not self.instances:
            raise SpecError(f"scenario {self.name!r} - has no instances; name at least one profile, e.g. '4g+2g+1g'")
        if not self.name.strip() or not self.name.isprintable() or not {"/", "\\"}.isdisjoint(self.name):
            raise SpecError(f"scenario {self.name!r} - the name has to stand in names of files; take text without slashes")
        names = Counter(instance.name for instance in self.instances)
        if twice := next((name for name, count in names.items() if count > 1), None):
            raise SpecError(f"scenario {self.name!r} - instance {twice!r} stands twice; names are unique in a scenario")
        self._modes()

    def __str__(self) -> str:
        return self.name

    @classmethod
    def parse(cls, text: str, *, gpu: str = "A100-80GB", gpus: int | None = None, name: str | None = None) -> Scenario:
        """Return the scenario that a text describes.

        Parameters
        ----------
        text : profiles in any spelling the planner reads, e.g. ``4g+2g+1g``, ``7x1g``, ``MIG nvidia-1-10c* 7``, ``4xT4-16Q``.
        gpu : the GPU model, in any name the catalogue knows.
        gpus : GPUs that may be used; None: one for MIG instances, else the fewest that hold everything.
        name : how it is called; None: its profiles in short, largest first.

        Raises
        ------
        SpecError
            The text or the GPU is not understood, or the instances do not fit; it says why.

        Examples
        --------
        >>> [str(Scenario.parse(text)) for text in ("1g*7", "3 x 2g + 1g", "MIG nvidia-7-80c", "whole")]
        ['7x1g', '2g+2g+2g+1g', '7g', 'whole']
        """
        return cls.from_layout(placed(text, gpu=gpu, gpus=gpus), name=name)

    @classmethod
    def from_layout(cls, layout: Layout, *, gpu: str | None = None, name: str | None = None) -> Scenario:
        """Return all instances of a layout as a scenario; who occupies them does not matter.

        Parameters
        ----------
        layout : of a plan, a target or hand-made; GPUs without placements are left out.
        gpu : only GPUs of this model; None: all, which have to be of one model.
        name : how it is called; None: its profiles in short, largest first.

        Raises
        ------
        SpecError
            No instance is left, GPUs of several models are, or an instance is not finished or used by somebody unknown.
        """
        wanted = None if gpu is None else catalog.gpu(gpu).name
        used = [entry for entry in layout if entry.slots and wanted in (None, entry.model)]
        models = sorted({entry.model for entry in used})
        if len(models) != 1:
            found = f"GPUs of several models, {' and '.join(models)}; take one of them with gpu=" if models else "no instances"
            raise SpecError(f"layout - has {found}" + (f" on {wanted}" if wanted and not models else ""))
        used.sort(key=lambda entry: (entry.host or "", entry.gpu))
        placements = [(entry, slot) for entry in used for slot in entry.slots]
        for entry, slot in placements:
            if not slot.ready or slot.busy:
                what = "is used by a process that no layout names; end it" if slot.busy else "is not finished; finish it"
                raise SpecError(f"{gpu_label(entry.host, entry.gpu)} ({entry.model}) - {slot.profile}@{slot.start} {what} first")
        instances = tuple(
            Instance(called, slot.profile, entry.gpu, slot.start, entry.host, entry.uuid if entry.mode == "whole" else None)
            for called, (entry, slot) in zip(named(slot.profile for _, slot in placements), placements, strict=True)
        )
        modes = dict.fromkeys(entry.mode or "" for entry in used)
        return cls(name or short_name(models[0], (i.profile for i in instances)), models[0], "+".join(modes), instances)

    @classmethod
    def from_plan(cls, plan: Plan, *, gpu: str | None = None, name: str | None = None) -> Scenario:
        """Return all instances of a plan as a scenario; see `from_layout`."""
        return cls.from_layout(plan.layout, gpu=gpu, name=name)

    @property
    def profiles(self) -> tuple[str, ...]:
        """Profile of each instance, in their order."""
        return tuple(instance.profile for instance in self.instances)

    @property
    def gpus(self) -> tuple[tuple[str | None, int], ...]:
        """Its GPUs as (host, index), in the order of the instances."""
        return tuple(dict.fromkeys(instance.board for instance in self.instances))

    @property
    def uniform(self) -> bool:
        """Whether all instances have the same profile."""
        return len(set(self.profiles)) == 1

    def _modes(self) -> dict[tuple[str | None, int], str]:
        """Return the mode of each GPU: the one of `mode` in which its instances are legal."""
        placements: dict[tuple[str | None, int], list[tuple[str, int]]] = {}
        for instance in self.instances:
            placements.setdefault(instance.board, []).append((instance.profile, instance.start))
        return {board: mode_of(self.gpu, self.mode, tuple(there)) for board, there in placements.items()}

    def shares(self) -> tuple[float, ...]:
        """Return the share of its GPU's compute that each instance gets while all are busy, in (0, 1].

        Notes
        -----
        MIG: compute slices over those of the GPU. Time-sliced vGPUs: units over those of the GPU, which is 1 over the
        maximum where all have the same size; the scheduler gives more while others are idle.
        """
        modes, model, shares = self._modes(), catalog.gpu(self.gpu), []
        for instance in self.instances:
            geometry = model.geometry(modes[instance.board])
            profile = geometry.profile(instance.profile)
            mig = geometry.mode == "mig"
            shares.append(profile.compute_slices / model.compute_slices if mig else profile.extent / geometry.units)
        return tuple(shares)

    def with_uuids(self, uuids: Mapping[Any, str]) -> Scenario:
        """Return the scenario with the driver's name of each instance.

        Parameters
        ----------
        uuids : for every instance, by its name, by (gpu, start), or by (host, gpu, start).

        Raises
        ------
        SpecError
            An instance has none, a key belongs to no instance, or one UUID is given to two instances.
        """
        who, found = f"scenario {self.name!r}", list[Instance]()
        unused, taken = set(uuids), set[str]()
        for instance in self.instances:
            keys = (instance.name, (*instance.board, instance.start), (instance.gpu, instance.start))
            key = next((key for key in keys if key in uuids), None)
            if key is None:
                raise SpecError(f"{who} - instance {instance.name!r} has no UUID; give {keys[0]!r} or {keys[2]}")
            unused.discard(key)
            if uuids[key] in taken:
                raise SpecError(f"{who} - UUID {uuids[key]!r} is given to two instances; each has its own")
            taken.add(uuids[key])
            found.append(replace(instance, uuid=uuids[key]))
        if unused:
            raise SpecError(f"{who} - UUID of {min(map(str, unused))} belongs to no instance; there are {self._names}")
        return replace(self, instances=tuple(found))

    def only(self, *names: str) -> Scenario:
        """Return some of the instances as a scenario of their own, for measuring them alone: ``4g+2g+1g[1g.10gb]``.

        Raises
        ------
        SpecError
            A name belongs to no instance.
        """
        known = [instance.name for instance in self.instances]
        for name in names:
            if name not in known:
                raise SpecError(f"scenario {self.name!r} - has no instance {name!r}; {did_you_mean(name, known) or self._names}")
        kept = tuple(instance for instance in self.instances if instance.name in names)
        modes = dict.fromkeys(mode for board, mode in self._modes().items() if board in {i.board for i in kept})
        return Scenario(f"{self.name}[{','.join(i.name for i in kept)}]", self.gpu, "+".join(modes), kept)

    @property
    def _names(self) -> str:
        return ", ".join(instance.name for instance in self.instances)

    def to_data(self) -> dict[str, Any]:
        """Return the scenario as plain data for a file."""
        return {
            "name": self.name,
            "gpu": self.gpu,
            "mode": self.mode,
            "instances": [
                {"name": i.name, "profile": i.profile, "gpu": i.gpu, "start": i.start}
                | ({} if i.host is None else {"host": i.host})
                | ({} if i.uuid is None else {"uuid": i.uuid})
                for i in self.instances
            ],
        }

    @classmethod
    def from_data(cls, data: object) -> Scenario:
        """Return the scenario that `to_data` described.

        Raises
        ------
        SpecError
            The data has another form, or its instances cannot be.
        """
        try:
            return _adapter().validate_python(data)
        except ValidationError as error:
            problems = problems_of(error, _FIELDS)
            raise SpecError([Problem(text, field=format_location(("scenario", *place))) for text, place in problems]) from error


_FIELDS = sorted({field.name for kind in (Instance, Scenario) for field in fields(kind)})


@cache
def _adapter() -> TypeAdapter[Scenario]:
    return TypeAdapter(Scenario)
