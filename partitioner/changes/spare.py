"""Instances in which a replica can wait while its new place is made. Must not know in which order steps come."""

from __future__ import annotations

from collections.abc import Container, Iterator
from functools import cached_property

from partitioner.changes.gpus import At, GpuChange, Reader
from partitioner.layout import GpuKey, Layout

_Kind = tuple[str, str | None]  # model and mode
_FEW = 16  # GPUs, of which each is looked at


class Spares:
    """Finds spare instances.

    Parameters
    ----------
    current, goal : the layouts; GPUs of both that do not change may lend an instance, too.
    changing : the GPUs that change.
    """

    def __init__(self, current: Layout, goal: Layout, changing: dict[GpuKey, GpuChange]) -> None:
        self._current, self._goal = current, goal
        self._gpus = dict(changing)
        self._known: dict[_Kind, list[GpuKey]] = {}  # GPUs that may have room; one that got more room stands there again
        self._looked: dict[tuple[_Kind, str], int] = {}  # how many of them were looked at for a profile
        self._open: dict[tuple[_Kind, str], list[GpuKey]] = {}  # those that had room when they were looked at

    def freed(self, gpu: GpuChange) -> None:
        """Note that a GPU has more room than before."""
        if self._known and gpu.mode == gpu.goal_mode:
            self._known.setdefault((gpu.model, gpu.mode), []).append(gpu.key)

    def find(self, gpu: GpuChange, profile: str, but: Container[GpuKey] = ()) -> tuple[GpuChange, At] | None:
        """Return an instance, which exists or can be made, where a replica of this GPU can wait.

        Parameters
        ----------
        gpu : where the replica runs.
        profile : the profile it runs in; only the same will do.
        but : GPUs that lend nothing.

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
            found = self._offer(again[-1], profile, but)
            if found is not None:
                return found
            again.pop()
        for looked in range(self._looked.get((kind, profile), 0), len(known)):
            self._looked[kind, profile] = looked + 1
            found = self._offer(known[looked], profile, but)
            if found is not None:
                again.append(known[looked])
                return found
        return None

    def lenders(self, gpus: dict[GpuKey, GpuChange]) -> Iterator[GpuChange]:
        """Iterate over GPUs, other than the given ones, that may have room for what is on these: of a few GPUs all of them."""
        if len(self._goal) <= _FEW:
            yield from (self._gpu(key) for key in self._current.rows if key in self._goal.rows and key not in gpus)
            return
        seen = set(gpus)
        for gpu in gpus.values():
            for profile, _ in gpu.goes_to:
                found = self.find(gpu, profile, gpus)
                if found is not None and found[0].key not in seen:
                    seen.add(found[0].key)
                    yield found[0]

    def _list(self) -> None:
        patterns, goal = self._current.patterns, self._goal.rows
        for gpu in self._gpus.values():
            if gpu.mode == gpu.goal_mode:
                self._known.setdefault((gpu.model, gpu.mode), []).append(gpu.key)
        for key, pattern in zip(self._current.rows, self._current.gpu_pattern.tolist(), strict=True):
            if key in goal and key not in self._gpus:
                self._known.setdefault((patterns[pattern].model, patterns[pattern].mode), []).append(key)

    def _gpu(self, key: GpuKey) -> GpuChange:
        gpu = self._gpus.get(key)
        if gpu is None:
            reader, row = self._reader, self._current.rows[key]
            (model, mode), present = reader.kind(row), reader.instances(row)
            gpu = self._gpus[key] = GpuChange(key, model, mode, mode, present, dict(present), busy=reader.busy(row))
        return gpu

    def _offer(self, key: GpuKey, profile: str, but: Container[GpuKey]) -> tuple[GpuChange, At] | None:
        if key in but:
            return None
        gpu = self._gpu(key)
        at = _idle(gpu, profile) or gpu.room(profile)
        return None if at is None else (gpu, at)

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self._current)


def _idle(gpu: GpuChange, profile: str) -> At | None:
    """Return an instance that exists, that nobody holds, and that nobody is to have."""
    closed = {*gpu.doomed, *gpu.unready, *gpu.busy}
    for at, who in gpu.present.items():
        if at[0] == profile and who is None and gpu.wanted.get(at) is None and at not in closed:
            return at
    return None
