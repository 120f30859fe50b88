"""What may coexist on one GPU, in integers: profiles, placements, configurations, layouts of one GPU.

One abstraction serves MIG, equal-size and mixed-size vGPU and whole GPUs: a *geometry* has a number of units; a profile
occupies ``extent`` consecutive units from one of its ``starts``; at most ``max_count`` instances of a profile exist; the
instances' ``uses`` of counted resources (engines) stay within the geometry's ``totals``; and, where the geometry is
exclusive, all instances belong to one family (the C-series of vGPUs does not mix with Q, B and A).

This module must not know GPUs, files or workloads.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property

from partitioner.errors import GeometryError, did_you_mean

MAX_CONFIGURATIONS = 200_000
"""Most configurations that `Geometry.configurations` lists before it refuses."""

_LAYOUTS_COMPARED = 256  # layouts of one configuration among which the one with the most useful room is chosen


@dataclass(frozen=True, slots=True)
class Profile:
    """A shape that a GPU offers.

    Parameters
    ----------
    name : NVIDIA's name: ``3g.40gb``, ``T4-4Q``; ``whole`` for the GPU itself.
    starts : legal first units, ascending.
    extent : units occupied.
    max_count : most instances on one GPU.
    compute_slices : compute slices owned; 0 where compute is time-sliced.
    memory_mib : memory or frame buffer usable [MiB].
    gi_profile_id : the driver's id of the GPU instance profile (``nvidia-smi mig -lgip``), None where there is none.
    attributes : NVIDIA's suffixes, e.g. ``("me",)`` for ``+me`` and ``("-me",)`` for ``-me``.
    family : instances of different families never share a GPU in an exclusive geometry.
    uses : counted resources that one instance takes, as (name, amount), e.g. ``(("decoders", 1),)``.
    multiprocessors : streaming multiprocessors, None where not known.
    aliases : other spellings of the name in use.
    compute_instances : profiles of compute instances that cut this GPU instance further (MIG only).
    """

    name: str
    starts: tuple[int, ...]
    extent: int
    max_count: int
    compute_slices: int = 0
    memory_mib: int = 0
    gi_profile_id: int | None = None
    attributes: tuple[str, ...] = ()
    family: str = ""
    uses: tuple[tuple[str, int], ...] = field(default=(), repr=False)
    multiprocessors: int | None = field(default=None, repr=False)
    aliases: tuple[str, ...] = field(default=(), repr=False)
    compute_instances: tuple[Profile, ...] = field(default=(), repr=False)

    def __str__(self) -> str:
        return self.name

    def compute_geometry(self) -> Geometry:
        """Return the geometry of compute instances inside one instance of this profile.

        Returns
        -------
        A geometry whose units are the compute slices of the GPU instance and whose profiles are named as the driver
        names them (``1c.3g.40gb``; the one that takes everything has the name of the GPU instance profile).

        Raises
        ------
        GeometryError
            The profile has no compute instances (vGPU types, whole GPUs).
        """
        if not self.compute_instances:
            raise GeometryError(f"profile {self.name!r} has no compute instances; only MIG GPU instance profiles have")
        return Geometry(f"ci:{self.name}", self.compute_slices, self.compute_instances)


@dataclass(frozen=True, slots=True)
class Placement:
    """A profile at a start on one GPU."""

    profile: Profile
    start: int

    @property
    def end(self) -> int:
        """First unit after the placement."""
        return self.start + self.profile.extent

    def __str__(self) -> str:
        return f"{self.profile.name}@{self.start}"


class Configuration(Mapping[str, int]):
    """A multiset of profiles on one GPU: profile name to count, in the order of the geometry. Immutable and hashable.

    Examples
    --------
    >>> str(Configuration({"4g.40gb": 1, "1g.10gb": 3}))
    '4g.40gb + 3 x 1g.10gb'
    """

    __slots__ = ("_counts",)

    def __init__(self, counts: Mapping[str, int]) -> None:
        self._counts = {name: count for name, count in counts.items() if count}

    def __getitem__(self, name: str) -> int:
        return self._counts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._counts)

    def __len__(self) -> int:
        return len(self._counts)

    def __hash__(self) -> int:
        return hash(frozenset(self._counts.items()))

    def __str__(self) -> str:
        parts = (f"{count} x {name}" if count > 1 else name for name, count in self._counts.items())
        return " + ".join(parts) or "empty"

    def __repr__(self) -> str:
        return f"Configuration({self._counts!r})"


# The multiplication sign is meant: people paste it from documents.
_TERM = re.compile(r"^(?:(?P<before>\d+)\s*[x*×]\s*)?(?P<name>.*?)(?:\s*[x*×]\s*(?P<after>\d+))?$", re.IGNORECASE)
# A plus sign separates profiles unless an attribute of NVIDIA's follows it (+me, +me.all, +gfx).
_PLUS = re.compile(r"\+(?!\s*(?:me|me\.all|gfx)\b)", re.IGNORECASE)


def parse_terms(text: str) -> tuple[tuple[str, int], ...]:
    """Split a configuration as people write it into (profile as written, count).

    Parameters
    ----------
    text : e.g. ``4g+2g+1g``, ``7x1g``, ``nvidia-1-10c* 7``, ``2g.20gb + 1g.10gb+me``.

    Returns
    -------
    The terms in order; equal spellings are not merged.

    Raises
    ------
    GeometryError
        A term is empty or its count is zero.

    Examples
    --------
    >>> parse_terms("4g+2g + 3x1g.10gb+me")
    (('4g', 1), ('2g', 1), ('1g.10gb+me', 3))
    """
    terms = []
    for term in _PLUS.split(text):
        match = _TERM.match(" ".join(term.split()))
        name = match["name"].strip() if match else ""
        if not match or not name or (match["before"] and match["after"]):
            raise GeometryError(f"configuration {text!r}: {term!r} is not a profile; write e.g. '4g+2g+1g' or '7x1g'")
        digits = match["before"] or match["after"] or "1"
        count = int(digits) if len(digits) <= 10 else 0
        if not 0 < count <= 1_000_000_000:
            raise GeometryError(f"configuration {text!r}: count {digits} of {name!r} is not between 1 and 1,000,000,000")
        terms.append((name, count))
    return tuple(terms)


@dataclass(frozen=True)
class Geometry:
    """The profiles that may coexist on one GPU, with legal starts, maxima and totals.

    Parameters
    ----------
    mode : the state a GPU must be in to offer it: ``mig``, ``vgpu-equal-<GB>``, ``vgpu-mixed`` or ``whole``.
    units : number of units (MIG: memory slices; equal-size vGPU: the maximum count; mixed-size vGPU: GB).
    profiles : what may be placed.
    totals : resources shared by all instances, as (name, amount); a resource not named here does not limit.
    exclusive : whether all instances on one GPU must belong to one family.

    Raises
    ------
    GeometryError
        A profile has no start, leaves the units, or two profiles share a name.
    """

    mode: str
    units: int
    profiles: tuple[Profile, ...]
    totals: tuple[tuple[str, int], ...] = ()
    exclusive: bool = False
    _by_name: dict[str, int] = field(init=False, repr=False, compare=False, hash=False)

    def __post_init__(self) -> None:
        by_name: dict[str, int] = {}
        for index, profile in enumerate(self.profiles):
            if profile.name in by_name:
                raise GeometryError(f"{self.mode}: profile {profile.name!r} is listed twice")
            by_name[profile.name] = index
            if not profile.starts or profile.extent < 1 or profile.max_count < 1:
                raise GeometryError(
                    f"{self.mode}: profile {profile.name!r} needs a start, an extent and a maximum count of at least 1"
                )
            if list(profile.starts) != sorted(set(profile.starts)):
                raise GeometryError(
                    f"{self.mode}: profile {profile.name!r} has starts {profile.starts}; they must ascend without repetition"
                )
            if profile.starts[0] < 0 or profile.starts[-1] + profile.extent > self.units:
                raise GeometryError(
                    f"{self.mode}: profile {profile.name!r} at start {profile.starts[-1]} leaves the GPU's {self.units} units"
                )
        object.__setattr__(self, "_by_name", by_name)

    # -- look-up ---------------------------------------------------------------------------------------------------

    @cached_property
    def placements(self) -> tuple[Placement, ...]:
        """Every profile at every legal start, profiles in order, starts ascending."""
        return tuple(Placement(profile, start) for profile in self.profiles for start in profile.starts)

    @cached_property
    def _masks(self) -> dict[tuple[str, int], tuple[int, int]]:
        """(profile name, start) to (index of the profile, bit mask of the units)."""
        return {
            (profile.name, start): (index, ((1 << profile.extent) - 1) << start)
            for index, profile in enumerate(self.profiles)
            for start in profile.starts
        }

    @cached_property
    def _limits(self) -> _Limits:
        return _Limits(self)

    def profile(self, name: str) -> Profile:
        """Return the profile of that name.

        Raises
        ------
        GeometryError
            There is none; names the near matches.
        """
        index = self._by_name.get(name)
        if index is None:
            hint = did_you_mean(name, self._by_name)
            raise GeometryError(f"{self.mode}: unknown profile {name!r}" + (f"; {hint}" if hint else ""))
        return self.profiles[index]

    def subset(self, names: Iterable[str]) -> Geometry:
        """Return the same geometry with only the named profiles, in the geometry's own order.

        Raises
        ------
        GeometryError
            A name is unknown.
        """
        wanted = {self.profile(name).name for name in names}
        return replace(self, profiles=tuple(profile for profile in self.profiles if profile.name in wanted))

    # -- legality --------------------------------------------------------------------------------------------------

    def violation(self, placements: Iterable[Placement | tuple[str, int]]) -> str | None:
        """Say why placements may not coexist on one GPU, or None when they may.

        Parameters
        ----------
        placements : placements, or pairs of profile name and start, in any order.

        Notes
        -----
        A few microseconds for an A100: one bit mask for each placement. Rules 1 and 4 of NVIDIA's MIG geometry:
        listed starts, no overlap, maximum for each profile, totals of the engines.
        """
        masks, occupied = self._masks, 0
        counts = [0] * len(self.profiles)
        for placement in placements:
            key = (placement.profile.name, placement.start) if isinstance(placement, Placement) else tuple(placement)
            known = masks.get(key)  # type: ignore[arg-type]
            if known is None:
                return self._unknown_placement(*key)
            index, mask = known
            if occupied & mask:
                return f"profile {key[0]!r} at start {key[1]} overlaps another placement"
            occupied |= mask
            counts[index] += 1
        return self._limits.violation(counts)

    def _unknown_placement(self, name: object, start: object) -> str:
        if not isinstance(name, str) or name not in self._by_name:
            return f"unknown profile {name!r}; {did_you_mean(str(name), self._by_name)}"
        starts = ", ".join(map(str, self.profile(name).starts))
        return f"profile {name!r} cannot start at {start}; legal starts are {starts}"

    def is_legal(self, placements: Iterable[Placement | tuple[str, int]]) -> bool:
        """Whether placements may coexist on one GPU; `violation` says why not."""
        return self.violation(placements) is None

    # -- enumeration -----------------------------------------------------------------------------------------------

    def layouts(self, *, maximal: bool = False) -> Iterator[tuple[Placement, ...]]:
        """Iterate over all legal sets of placements on one GPU, the empty one included, each sorted by start.

        Parameters
        ----------
        maximal : only those to which no placement can be added.

        Notes
        -----
        Lazily, each set once. Exponential in the units: 2,319 sets for an A100 with all its profiles, far too many to
        list for a T4 cut into 1 GB types.
        """
        by_start: list[list[Placement]] = [[] for _ in range(self.units)]
        for placement in self.placements:
            by_start[placement.start].append(placement)
        counts = [0] * len(self.profiles)
        chosen: list[Placement] = []

        def visit(position: int) -> Iterator[tuple[Placement, ...]]:
            if position >= self.units:
                layout = tuple(chosen)
                if not maximal or not self.free(layout):
                    yield layout
                return
            yield from visit(position + 1)
            for placement in by_start[position]:
                index = self._by_name[placement.profile.name]
                counts[index] += 1
                if self._limits.violation(counts) is None:
                    chosen.append(placement)
                    yield from visit(placement.end)
                    chosen.pop()
                counts[index] -= 1

        return visit(0)

    @cached_property
    def _count_vectors(self) -> frozenset[tuple[int, ...]]:
        """All feasible configurations as vectors of counts in the order of the profiles.

        Overlap only constrains how intervals follow one another, maxima and totals only constrain counts, so
        `reachable[u]`, the counts that units u.. can hold, follows from the later units alone.
        """
        empty = (0,) * len(self.profiles)
        reachable: list[set[tuple[int, ...]]] = [set() for _ in range(self.units)] + [{empty}]
        for position in range(self.units - 1, -1, -1):
            here = set(reachable[position + 1])
            for index, profile in enumerate(self.profiles):
                if position not in profile.starts:
                    continue
                for counts in reachable[position + profile.extent]:
                    if counts[index] < profile.max_count:
                        more = (*counts[:index], counts[index] + 1, *counts[index + 1 :])
                        if self._limits.violation(more) is None:
                            here.add(more)
            if len(here) > MAX_CONFIGURATIONS:
                raise GeometryError(
                    f"{self.mode}: more than {MAX_CONFIGURATIONS:,} configurations of {len(self.profiles)} profiles;"
                    " take fewer profiles with subset()"
                )
            reachable[position] = here
        return frozenset(reachable[0])

    def configurations(self, *, maximal: bool = False) -> tuple[Configuration, ...]:
        """Return the multisets of profiles that fit on one GPU, the empty one included.

        Parameters
        ----------
        maximal : only those to which no profile can be added, wherever the others are placed.

        Returns
        -------
        Distinct configurations, largest profiles first.

        Raises
        ------
        GeometryError
            There are more than `MAX_CONFIGURATIONS`; take a `subset`.
        """
        vectors: Iterable[tuple[int, ...]] = self._count_vectors
        if maximal:
            vectors = [vector for vector in vectors if not self._grows(vector)]
        order = sorted(range(len(self.profiles)), key=lambda i: (-self.profiles[i].extent, -self.profiles[i].compute_slices, i))
        ordered = sorted(vectors, key=lambda vector: [-vector[i] for i in order])
        return tuple(Configuration({self.profiles[i].name: vector[i] for i in order}) for vector in ordered)

    def _grows(self, vector: tuple[int, ...]) -> bool:
        return any((*vector[:i], vector[i] + 1, *vector[i + 1 :]) in self._count_vectors for i in range(len(self.profiles)))

    # -- one GPU ---------------------------------------------------------------------------------------------------

    def free(self, placements: Iterable[Placement]) -> tuple[Placement, ...]:
        """Return the placements of which any single one could be added to the given ones.

        Raises
        ------
        GeometryError
            The given placements are themselves not legal.
        """
        placements = tuple(placements)
        reason = self.violation(placements)
        if reason is not None:
            raise GeometryError(f"{self.mode}: {reason}")
        occupied = 0
        counts = [0] * len(self.profiles)
        for placement in placements:
            index, mask = self._masks[placement.profile.name, placement.start]
            occupied |= mask
            counts[index] += 1
        allowed = [self._limits.violation([c + (i == j) for j, c in enumerate(counts)]) is None for i in range(len(counts))]
        return tuple(
            placement
            for placement, (index, mask) in zip(self.placements, self._masks.values(), strict=True)
            if allowed[index] and not occupied & mask
        )

    def room(self, placements: Iterable[Placement]) -> dict[str, int]:
        """Return how many instances of each profile could still be added, one profile at a time.

        Returns
        -------
        Profile name to count, only profiles with room.

        Raises
        ------
        GeometryError
            The given placements are themselves not legal.
        """
        placed = list(placements)
        room: dict[str, int] = {}
        by_profile: dict[str, list[Placement]] = {}
        for placement in self.free(placed):
            by_profile.setdefault(placement.profile.name, []).append(placement)
        for name, candidates in by_profile.items():
            added: list[Placement] = []
            for placement in candidates:  # earliest end first is optimal for intervals of one length
                if (not added or placement.start >= added[-1].end) and self.is_legal([*placed, *added, placement]):
                    added.append(placement)
            room[name] = len(added)
        return room

    @cached_property
    def _layout_cache(self) -> dict[Configuration, tuple[Placement, ...] | None]:
        return {}

    def layout_of(self, configuration: Mapping[str, int]) -> tuple[Placement, ...] | None:
        """Return placements for a configuration, or None where it does not fit.

        Among the layouts of the configuration (the first 256, where there are more) the one that leaves the most
        room for further profiles is taken; the same configuration always gets the same layout.

        Raises
        ------
        GeometryError
            A profile is unknown or a count negative.
        """
        for name, count in configuration.items():
            if count < 0:
                raise GeometryError(f"{self.mode}: count {count} of {name!r} is negative")
        wanted = Configuration({self.profile(name).name: count for name, count in configuration.items()})
        if wanted not in self._layout_cache:
            self._layout_cache[wanted] = self._find_layout(wanted)
        return self._layout_cache[wanted]

    def _find_layout(self, wanted: Configuration) -> tuple[Placement, ...] | None:
        counts = [wanted.get(profile.name, 0) for profile in self.profiles]
        if self._limits.violation(counts) is not None:
            return None
        best: tuple[int, tuple[Placement, ...]] | None = None
        for examined, layout in enumerate(self._layouts_of(wanted), 1):
            score = sum(placement.profile.extent for placement in self.free(layout))
            if best is None or score > best[0]:
                best = score, layout
            if examined == _LAYOUTS_COMPARED or score == 0:
                break
        return best[1] if best else None

    def _layouts_of(self, wanted: Configuration) -> Iterator[tuple[Placement, ...]]:
        """Iterate over the layouts of a configuration, unit by unit, without dead ends.

        Profiles with the same starts and extent take their places in the order of the configuration. Whether what is
        left fits from a unit on is remembered, so a configuration that does not fit is found out without trying all.
        """
        alike: dict[tuple[tuple[int, ...], int], list[Profile]] = {}
        for name, count in wanted.items():
            profile = self.profile(name)
            alike.setdefault((profile.starts, profile.extent), []).extend([profile] * count)
        groups = sorted(alike.items(), key=lambda entry: (-entry[0][1], len(entry[0][0])))
        starts = [frozenset(places) for (places, _), _ in groups]
        extents = [extent for (_, extent), _ in groups]

        def places(position: int, left: tuple[int, ...]) -> Iterator[tuple[int, tuple[int, ...]]]:
            """Iterate over the groups that can begin here, and what is left then."""
            for group in range(len(groups)):
                if left[group] and position in starts[group]:
                    yield group, (*left[:group], left[group] - 1, *left[group + 1 :])

        @cache
        def fits(position: int, left: tuple[int, ...]) -> bool:
            room = self.units - position - sum(n * extent for n, extent in zip(left, extents, strict=True))
            if room < 0 or not any(left):
                return room >= 0
            return any(fits(position + extents[group], rest) for group, rest in places(position, left)) or fits(
                position + 1, left
            )

        chosen: list[tuple[int, int]] = []

        def visit(position: int, left: tuple[int, ...]) -> Iterator[tuple[Placement, ...]]:
            if not any(left):
                waiting = [iter(profiles) for _, profiles in groups]
                yield tuple(Placement(next(waiting[group]), start) for group, start in chosen)
                return
            for group, rest in places(position, left):
                if fits(position + extents[group], rest):
                    chosen.append((group, position))
                    yield from visit(position + extents[group], rest)
                    chosen.pop()
            if fits(position + 1, left):
                yield from visit(position + 1, left)

        everything = tuple(len(profiles) for _, profiles in groups)
        if fits(0, everything):
            yield from visit(0, everything)


class _Limits:
    """Checks of counts alone: maxima, totals, families."""

    def __init__(self, geometry: Geometry) -> None:
        self._profiles = geometry.profiles
        self._max = [profile.max_count for profile in geometry.profiles]
        self._totals = [
            (name, total, [dict(profile.uses).get(name, 0) for profile in geometry.profiles]) for name, total in geometry.totals
        ]
        self._totals = [entry for entry in self._totals if any(entry[2])]
        families = [profile.family for profile in geometry.profiles]
        self._families = families if geometry.exclusive and len(set(families)) > 1 else None
        self._said: dict[tuple[int, ...], str | None] = {}

    def violation(self, counts: list[int] | tuple[int, ...]) -> str | None:
        """Say which limit the counts break, or None. The same few counts are asked for again and again."""
        key = tuple(counts)
        if key not in self._said:
            if len(self._said) >= MAX_CONFIGURATIONS:
                self._said.clear()
            self._said[key] = self._violation(key)
        return self._said[key]

    def _violation(self, counts: tuple[int, ...]) -> str | None:
        for index, most in enumerate(self._max):
            if counts[index] > most:
                return f"{counts[index]} x {self._profiles[index].name}: at most {most} on one GPU"
        for name, total, uses in self._totals:
            used = sum(count * use for count, use in zip(counts, uses, strict=True))
            if used > total:
                return f"{used} {name} used: the GPU has {total}"
        if self._families is not None:
            present = {family for family, count in zip(self._families, counts, strict=True) if count}
            if len(present) > 1:
                return f"vGPU series {' and '.join(sorted(present))} do not share a GPU"
        return None
