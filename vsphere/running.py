"""Jobs and how far each is: what the threads that begin, register and wait for tasks share. Must not know what the tasks do."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from pyVmomi import vmodl

from vsphere.errors import VSphereError, words
from vsphere.waiting import Waiting

_GATHER_S = 5.0  # longest time that a task waits to be registered together with others that are being begun


@dataclass(frozen=True, slots=True)
class Job:
    """A task to be carried out.

    Parameters
    ----------
    who : what it is about, for messages: ``VM 'chat-0'``.
    begin : calls the method that makes the task, and returns the task; called in a thread.
    host : what is bounded together, a name of a host; None where nothing is.
    """

    who: str
    begin: Callable[[], Any]
    host: str | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended: with a result, or with an error, or it was not begun because another failed.

    Parameters
    ----------
    job : the job.
    result : what the task returned; None where it returns nothing, or failed.
    error : why it failed, with vCenter's fault; None where it did not.
    begun : whether it was begun.
    """

    job: Job
    result: Any = None
    error: VSphereError | None = None
    begun: bool = True


@dataclass(frozen=True, slots=True)
class Progress:
    """One thing that happened: a job was begun, went on, or ended.

    Parameters
    ----------
    who : the job.
    state : what happened to it.
    percent : how far its task is [%]; None where vCenter does not say.
    finished, total : jobs that ended, well or not, and all.
    """

    who: str
    state: Literal["begun", "running", "done", "failed"]
    percent: int | None
    finished: int
    total: int


class Run:
    """Jobs and how far each is, shared by the threads that begin them, the one that registers tasks and the one that waits."""

    def __init__(self, who: str, jobs: tuple[Job, ...], per_host: int, *, stop_on_error: bool) -> None:
        self.who, self.jobs, self._per_host, self._stop_on_error = who, jobs, per_host, stop_on_error
        self.outcomes: dict[int, Outcome] = {}
        self.watched: dict[Any, int] = {}
        self._state = threading.Condition()
        self._queues: dict[str | None, deque[int]] = {}
        for number, job in enumerate(jobs):
            self._queues.setdefault(job.host, deque()).append(number)
        self._running: dict[str | None, int] = {}
        self._beginning = 0
        self._fresh: list[Any] = []
        self._ended: list[Any] = []
        self._number: dict[Any, int] = {}
        self._since: dict[int, float] = {}
        self._seen: dict[int, dict[str, Any]] = {}
        self._events: deque[Progress] = deque()
        self._broken: BaseException | None = None
        self._stopped = not jobs

    # -- threads that begin --------------------------------------------------------------------------------------------

    def guarded(self, work: Callable[[], None]) -> None:
        """Do the work of a thread; what it raises is raised in the thread of the caller."""
        try:
            work()
        except BaseException as error:  # noqa: BLE001 - raised again by `ready`
            with self._state:
                self._broken = self._broken or error
                self._stopped = True
                self._state.notify_all()

    def begin_all(self) -> None:
        """Begin jobs until none is left."""
        while (number := self._take()) is not None:
            job = self.jobs[number]
            try:
                task = job.begin()
            except vmodl.MethodFault as fault:
                self._end(number, error=VSphereError(f"{job.who}: {words(fault)}", fault=fault))
            except VSphereError as error:
                self._end(number, error=error)
            else:
                with self._state:
                    self._beginning -= 1
                    self._number[task] = number
                    self._since[number] = time.monotonic()
                    self._fresh.append(task)
                    self._event(number, "begun", None)
                    self._state.notify_all()

    def _take(self) -> int | None:
        """Return the next job that its host has room for, waiting for one; None where nothing is left to begin."""
        with self._state:
            while not self._stopped:
                heads = self._heads()
                if heads:
                    self._beginning += 1
                    number, host = min(heads, key=lambda head: head[0])
                    self._queues[host].popleft()
                    self._running[host] = self._running.get(host, 0) + 1
                    return number
                if not any(self._queues.values()):
                    return None
                self._state.wait()
        return None

    def _heads(self) -> list[tuple[int, str | None]]:
        """Return the next job of each host that has room for one."""
        if self._stopped:
            return []
        return [
            (queue[0], host)
            for host, queue in self._queues.items()
            if queue and (host is None or self._running.get(host, 0) < self._per_host)
        ]

    # -- the thread that registers -------------------------------------------------------------------------------------

    def register_all(self, waiting: Waiting) -> None:
        """Have new tasks waited for, as many at once as there are, until everything ended."""
        while True:
            with self._state:
                self._state.wait_for(lambda: self._fresh or self._is_over)
                self._state.wait_for(lambda: self._is_over or not (self._beginning or self._heads()), _GATHER_S)
                if self._is_over:
                    return
                tasks, self._fresh = self._fresh, []
            for task, changed in waiting.read(tasks):  # quick ones have ended by now, and need no wait
                self.note(task, changed)
            tasks = [task for task in tasks if self._number[task] not in self.outcomes]
            if not tasks:
                continue
            with self._state:
                ended, self._ended = self._ended, []
            waiting.change(add=tasks, drop=ended)
            with self._state:
                self.watched.update((task, self._number[task]) for task in tasks if self._number[task] not in self.outcomes)
                self._state.notify_all()

    # -- the thread that waits -----------------------------------------------------------------------------------------

    @property
    def _is_over(self) -> bool:
        return self._broken is not None or len(self.outcomes) == len(self.jobs)

    def ready(self) -> bool:
        """Wait until a task is watched; False where everything ended.

        Raises
        ------
        BaseException
            What a thread raised.
        """
        with self._state:
            self._state.wait_for(lambda: self.watched or self._is_over)
            if self._broken is not None:
                raise self._broken
            return not self._is_over

    def note(self, task: Any, changed: Mapping[str, Any]) -> None:
        """Take in what vCenter says of a task."""
        number = self._number.get(task)
        if number is None or number in self.outcomes:
            return
        job = self.jobs[number]
        if not changed:
            said = f"{job.who}: vCenter no longer knows its task {task._moId}"  # noqa: SLF001
            self._end(number, error=VSphereError(f"{said}; read what is there and run it again"), task=task)
            return
        seen = self._seen.setdefault(number, {})
        seen.update(changed)
        state = str(seen.get("info.state"))
        if state == "success":
            self._end(number, result=seen.get("info.result"), task=task)
        elif state == "error":
            fault = seen.get("info.error")
            reason = words(fault) if fault is not None else "the task failed, and vCenter does not say why"
            self._end(number, error=VSphereError(f"{job.who}: {reason}", fault=fault), task=task)
        elif changed.get("info.progress") is not None:
            with self._state:
                self._event(number, "running", int(changed["info.progress"]))

    def expire(self, timeout_s: float) -> None:
        """Give up tasks that take longer."""
        now = time.monotonic()
        for task, number in list(self.watched.items()):
            if now - self._since[number] > timeout_s:
                said = f"{self.jobs[number].who}: its task {task._moId} did not end within {timeout_s:g} s"  # noqa: SLF001
                self._end(number, error=VSphereError(f"{said}; it goes on in vCenter"), task=task)

    def tell(self, progress: Callable[[Progress], None] | None) -> None:
        """Tell what happened since the last time."""
        while True:
            with self._state:
                if not self._events:
                    return
                event = self._events.popleft()
            if progress is not None:
                progress(event)

    def stop(self) -> None:
        """Begin nothing more, and let all threads end."""
        with self._state:
            self._stopped = True
            self._broken = self._broken or (None if self._is_over else _AbandonedError())
            self._state.notify_all()

    def _end(self, number: int, *, result: Any = None, error: VSphereError | None = None, task: Any = None) -> None:
        with self._state:
            job = self.jobs[number]
            self.outcomes[number] = Outcome(job, result, error)
            if task is None:
                self._beginning -= 1
            else:
                self.watched.pop(task, None)
                self._ended.append(task)
            self._running[job.host] -= 1
            if error is not None and self._stop_on_error and not self._stopped:
                self._stopped = True
                for other in [number for queue in self._queues.values() for number in queue]:
                    self.outcomes[other] = Outcome(self.jobs[other], begun=False)
            self._event(number, "done" if error is None else "failed", None)
            self._state.notify_all()

    def _event(self, number: int, state: Literal["begun", "running", "done", "failed"], percent: int | None) -> None:
        self._events.append(Progress(self.jobs[number].who, state, percent, len(self.outcomes), len(self.jobs)))


class _AbandonedError(Exception):
    """The thread of the caller left; only tells the other threads to end."""
