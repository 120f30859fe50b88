"""Instances in which a replica can wait while its new place is made. Must not know in which order steps come."""

from __future__ import annotations

from functools import lru_cache

from partitioner.changes.gpus import At, GpuChange, Reader, geometry_of
from partitioner.layout import GpuKey, Layout

_Kind = tuple[str, str | None]  # model and mode


class Spares:
    """Finds spare instances.

    Parameters
    ----------
    current, goal : the layouts; GPUs of both that do not change may lend an instance, too.
    changing : the GPUs that change; a quiet one that lends an instance is added.
    """

    def __init__(self, current: Layout, goal: Layout, changing: dict[GpuKey, GpuChange]) -> None:
        self._current, self._goal, self._changing = current, goal, changing
        self._keys = list(current.rows)
        self._reader = Reader(current)
        self._known: dict[_Kind, list[GpuKey]] = {}  # GPUs that may have room; one that got more room stands there again
        self._looked: dict[tuple[_Kind, str], int] = {}  # how many of them were looked at for a profile
        self._open: dict[tuple[_Kind, str], list[GpuKey]] = {}  # those that had room when they were looked at

    def freed(self, gpu: GpuChange) -> None:
        """Note that a GPU has more room than before."""
        if self._known and gpu.mode == gpu.goal_mode:
            self._known.setdefault((gpu.model, gpu.mode), []).append(gpu.key)

    def find(self, gpu: GpuChange, profile: str) -> tuple[GpuChange, At, bool] | None:
        """Return where a replica of this GPU can wait: the GPU, the instance, and whether it exists.

        Parameters
        ----------
        gpu : where the replica runs.
        profile : the profile it runs in; only the same will do.

        Notes
        -----
        The instance must fit beside what is on its GPU now and beside all that comes there in the end, so that it never
        keeps another step from its turn. A GPU without room is not looked at again before it gets some.
        """
        if not self._known:
            self._list()
        kind = (gpu.model, gpu.mode)
        known, again = self._known.get(kind, []), self._open.setdefault((kind, profile), [])
        while again:
            found = self._offer(again[-1], kind, profile)
            if found is not None:
                return found
            again.pop()
        looked = self._looked.get((kind, profile), 0)
        while looked < len(known):
            found = self._offer(known[looked], kind, profile)
            looked += 1
            if found is not None:
                again.append(known[looked - 1])
                break
        self._looked[kind, profile] = looked
        return found if looked and again else None

    def _list(self) -> None:
        patterns, goal = self._current.patterns, self._goal.rows
        for gpu in self._changing.values():
            if gpu.mode == gpu.goal_mode:
                self._known.setdefault((gpu.model, gpu.mode), []).append(gpu.key)
        for key, pattern in zip(self._keys, self._current.gpu_pattern.tolist(), strict=True):
            if key in goal and key not in self._changing:
                self._known.setdefault((patterns[pattern].model, patterns[pattern].mode), []).append(key)

    def _offer(self, key: GpuKey, kind: _Kind, profile: str) -> tuple[GpuChange, At, bool] | None:
        gpu = self._changing.get(key)
        if gpu is None:
            present = self._reader.instances(self._current.rows[key])
            gpu = GpuChange(key, *kind, kind[1], present, dict(present))
        at = _idle(gpu, profile)
        exists = at is not None
        if at is None:
            at = _room(gpu, profile)
        if at is None:
            return None
        self._changing[key] = gpu
        return gpu, at, exists


def _idle(gpu: GpuChange, profile: str) -> At | None:
    """Return an instance that exists, that nobody holds, and that nobody is to have."""
    for at, who in gpu.present.items():
        if at[0] == profile and who is None and at not in gpu.doomed and gpu.wanted.get(at) is None and at not in gpu.unready:
            return at
    return None


def _room(gpu: GpuChange, profile: str) -> At | None:
    """Return a place for one more instance, beside what is there and beside what comes."""
    assert gpu.mode is not None
    now, later = frozenset(gpu.present), frozenset({**gpu.wanted, **dict.fromkeys(gpu.spare)})
    return _common_room(gpu.model, gpu.mode, now, later, profile)


@lru_cache(maxsize=65536)
def _common_room(model: str, mode: str, now: frozenset[At], later: frozenset[At], profile: str) -> At | None:
    geometry = geometry_of(model, mode)
    for start in geometry.profile(profile).starts:
        at = (profile, start)
        if at in now or at in later:
            continue
        if geometry.violation([*now, at]) is None and geometry.violation([*later, at]) is None:
            return at
    return None
