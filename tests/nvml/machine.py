"""The machine behind the stand-in library: made, looked at and disturbed by tests, through the shared state file."""

from __future__ import annotations

import fcntl
import mmap
import os
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from ctypes import sizeof
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from nvml import state
from nvml.cards import Card, Placed, put_instance, write_gpu
from nvml.library import build
from nvml.tables import profile_ids, write_model

VARIABLE = "NVML_STANDIN_STATE"
_ACTIONS = {"return": 0, "hang": 1, "kill before": 2, "kill after": 3, "nothing": 4, "activation": 5, "fail after": 6}
_KINDS = {"compute": 0, "graphics": 1, "mps": 2, "monitor": 3}


@dataclass(frozen=True, slots=True)
class Instance:
    """A GPU instance that exists: ids as the driver gives them, and its compute instances as (id, profile id, start)."""

    id: int
    profile: str
    start: int
    generation: int
    compute: tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class LoggedCall:
    """One call of the library; ids that do not apply are -1, `start` of nvmlDeviceSetMigMode is the mode."""

    function: str
    result: int
    pid: int
    gpu: int
    gi: int
    ci: int
    profile: int
    start: int


class Machine:
    """A machine with GPUs, in a file.

    Examples
    --------
    ``with Machine(tmp_path / "nvml", ["A100-80GB"]) as machine:`` makes the real pynvml of this process see it;
    ``subprocess.run(..., env=machine.environment())`` does so for a child.
    """

    def __init__(self, path: str | os.PathLike[str], cards: Iterable[str | Card] | None = None) -> None:
        """Make the machine at a path, or open the one that is there (`cards` None)."""
        self.path = Path(path)
        if cards is not None:
            with self.path.open("wb") as file:
                file.truncate(sizeof(state.State))
        self._descriptor = os.open(self.path, os.O_RDWR | os.O_CLOEXEC)
        self._state = state.State.from_buffer(mmap.mmap(self._descriptor, sizeof(state.State)))
        if cards is not None:
            self._fill([card if isinstance(card, Card) else Card(card) for card in cards])

    def __del__(self) -> None:
        if hasattr(self, "_descriptor"):
            os.close(self._descriptor)

    def _fill(self, cards: list[Card]) -> None:
        with self.locked() as content:
            content.driver_version, content.nvml_version = b"580.95.05", b"13.580.95.05"
            content.cuda_version, content.driver_loaded = 13000, 1
            models = list(dict.fromkeys(card.model for card in cards))
            for target, name in zip(content.models, models, strict=False):
                write_model(target, name)
            content.model_count, content.gpu_count = len(models), len(cards)
            for index, card in enumerate(cards):
                write_gpu(content, index, card, models.index(card.model))
            content.size, content.magic = sizeof(state.State), state.MAGIC

    # -- life ------------------------------------------------------------------------------------------------------

    @contextmanager
    def locked(self) -> Iterator[state.State]:
        """Hold the machine still, and give its content for reading and changing."""
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        try:
            yield self._state
        finally:
            fcntl.flock(self._descriptor, fcntl.LOCK_UN)

    def __enter__(self) -> Machine:
        """Let the pynvml of this process see this machine."""
        self._library = build().load()
        self._before = os.environ.get(VARIABLE)
        os.environ[VARIABLE] = str(self.path)
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away again; a library that is still initialised forgets it."""
        self._library.standinForget()
        if self._before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = self._before

    def environment(self, *, library: bool = True) -> dict[str, str]:
        """Environment for a child process: the library, `nvidia-smi` and this machine.

        Parameters
        ----------
        library : False for a machine on which the library is not installed.
        """
        folder = build().folder
        if not library:
            folder = self.path.parent / "no-library"
            folder.mkdir(exist_ok=True)
            (folder / "libnvidia-ml.so.1").write_bytes(b"")  # stops the search before one that is installed
        path = os.pathsep.join([str(folder), os.environ.get("PATH", "")])
        return {**os.environ, VARIABLE: str(self.path), "LD_LIBRARY_PATH": str(folder), "PATH": path}

    def in_child(self, work: Callable[[], object]) -> int:
        """Run `work` in a forked process of its own and return its exit status, -9 where a fault killed it.

        A few milliseconds, a fresh interpreter takes ten times that: for many kill points. To be used inside
        ``with machine:``; `work` calls nvmlInit itself.
        """
        pid = os.fork()
        if not pid:
            try:
                work()
                os._exit(0)
            except BaseException:  # noqa: BLE001 -- the child must not go on as the test
                traceback.print_exc()
                os._exit(1)
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])

    # -- looking ---------------------------------------------------------------------------------------------------

    def _profiles(self, index: int) -> list[str]:
        model = self._state.models[self._state.gpus[index].model]
        return [model.profiles[n].name.decode() for n in range(model.profile_count)]

    def instances(self, gpu: int) -> tuple[Instance, ...]:
        """Return the GPU instances that exist on a GPU, by start."""
        names = self._profiles(gpu)
        with self.locked() as content:
            model = content.models[content.gpus[gpu].model]
            found = [
                Instance(
                    gi.id,
                    names[gi.profile],
                    gi.start,
                    gi.generation,
                    tuple(
                        (ci.id, model.profiles[gi.profile].compute_profiles[ci.profile].id, ci.start)
                        for ci in gi.compute
                        if ci.used
                    ),
                )
                for gi in content.gpus[gpu].instances
                if gi.used
            ]
        return tuple(sorted(found, key=lambda instance: instance.start))

    def placed(self, gpu: int) -> frozenset[Placed]:
        """Return (profile, start) of the GPU instances on a GPU."""
        return frozenset((instance.profile, instance.start) for instance in self.instances(gpu))

    def mode(self, gpu: int) -> tuple[bool, bool]:
        """Return MIG mode now and pending."""
        with self.locked() as content:
            return bool(content.gpus[gpu].mode), bool(content.gpus[gpu].pending)

    def uuid(self, gpu: int) -> str:
        """Return the UUID of a GPU."""
        return str(self._state.gpus[gpu].uuid.decode())

    def counts(self) -> Counter[str]:
        """Return how often each function was called since the start or `clear_log`."""
        with self.locked() as content:
            listed = content.functions[: content.function_count]
            return Counter({entry.name.decode(): entry.calls for entry in listed if entry.calls})

    def changes(self) -> tuple[LoggedCall, ...]:
        """Return the calls that may change the machine, in order, the refused ones too (the last 4,096)."""
        return self._log("change_count", "changes")

    def reads(self) -> tuple[LoggedCall, ...]:
        """Return the other calls, in order (the last 4,096)."""
        return self._log("read_count", "reads")

    def _log(self, count: str, ring: str) -> tuple[LoggedCall, ...]:
        with self.locked() as content:
            written, entries = getattr(content, count), getattr(content, ring)
            numbers = range(max(0, written - state.LOG), written)
            listed = [entries[number % state.LOG] for number in numbers]
            return tuple(
                LoggedCall(content.functions[e.function].name.decode(), e.result, e.pid, e.gpu, e.gi, e.ci, e.profile, e.start)
                for e in listed
            )

    def clear_log(self) -> None:
        """Forget all calls."""
        with self.locked() as content:
            content.read_count = content.change_count = 0
            for function in content.functions[: content.function_count]:
                function.calls = 0

    # -- disturbing ------------------------------------------------------------------------------------------------

    def fail(
        self,
        function: str = "*",
        action: Literal["return", "hang", "kill before", "kill after", "nothing", "activation", "fail after"] = "return",
        *,
        code: int = 999,
        hang_s: float = 0.0,
        at: int = 1,
        times: int = 1,
        gpu: int | None = None,
    ) -> int:
        """Set a fault; returns its number for `hits`.

        Parameters
        ----------
        function : name with wildcards (``nvmlDeviceGet*``), ``*`` for any, ``change`` for what changes the machine,
            ``mig`` for all that is about MIG.
        action : ``return`` a code without effect; ``hang`` for `hang_s` and then go on; ``kill before`` / ``kill after``
            the effect (SIGKILL of the calling process); claim success and do ``nothing``; ``activation``: the mode change
            is pending and reports `code`; ``fail after``: have the effect and return `code`.
        code : NVML's code.
        hang_s : time that the call hangs [s]; 0 for ever.
        at : strike at the n-th call from now on.
        times : strike so often; 0 for ever.
        gpu : only calls for this GPU.
        """
        with self.locked() as content:
            number, fault = next((n, fault) for n, fault in enumerate(content.faults) if not fault.used)
            fault.function, fault.gpu = function.encode(), state.NONE if gpu is None else gpu
            fault.skip, fault.times, fault.action, fault.hits = at - 1, times, _ACTIONS[action], 0
            fault.value, fault.used = round(hang_s * 1000) if action == "hang" else code, 1
        return number

    def hits(self, number: int) -> int:
        """Return how often a fault struck."""
        with self.locked() as content:
            return int(content.faults[number].hits)

    def clear_faults(self) -> None:
        """Take all faults away."""
        with self.locked() as content:
            for fault in content.faults:
                fault.used = 0

    def run_process(
        self,
        pid: int,
        gpu: int,
        *,
        gi: int | None = None,
        ci: int | None = None,
        name: str = "python",
        kind: Literal["compute", "graphics", "mps", "monitor"] = "compute",
        memory_mib: int = 512,
        only_while_alive: bool = False,
    ) -> None:
        """Put a process on a GPU or an instance.

        Parameters
        ----------
        gi, ci : ids of the instances it runs on; without `gi` it has the whole GPU open, and no GPU instance is created then.
        kind : a ``monitor`` holds the GPU (no mode change, no reset) and is listed nowhere, as a monitoring agent.
        only_while_alive : it is there as long as the process `pid` lives.
        """
        with self.locked() as content:
            process = next(process for process in content.processes if not process.used)
            process.pid, process.gpu, process.kind, process.memory_mib = pid, gpu, _KINDS[kind], memory_mib
            process.gi = state.NONE if gi is None else gi
            process.ci = (state.NONE if gi is None else 0) if ci is None else ci
            process.name, process.only_while_alive, process.used = name.encode()[:95], int(only_while_alive), 1

    def end_process(self, pid: int) -> None:
        """Take all entries of a process away."""
        with self.locked() as content:
            for process in content.processes:
                if process.used and process.pid == pid:
                    process.used = 0

    def put(self, gpu: int, profile: str, start: int, *, compute: bool = True) -> None:
        """Create an instance behind the back of the program under test, with or without its compute instance."""
        with self.locked() as content:
            put_instance(content, gpu, profile, start, compute=compute)

    def take(self, gpu: int, start: int) -> None:
        """Destroy the instance at a start, with its compute instances, behind the back of the program under test."""
        with self.locked() as content:
            for gi in content.gpus[gpu].instances:
                if gi.used and gi.start == start:
                    gi.used = 0

    def set_mode(self, gpu: int, *, current: bool | None = None, pending: bool | None = None) -> None:
        """Set MIG mode now, pending, or both."""
        with self.locked() as content:
            if current is not None:
                content.gpus[gpu].mode = int(current)
            if pending is not None or current is not None:
                content.gpus[gpu].pending = int(bool(current) if pending is None else pending)

    def lose(self, gpu: int, *, lost: bool = True) -> None:
        """Let a GPU fall off the bus, or bring it back."""
        with self.locked() as content:
            content.gpus[gpu].lost = int(lost)

    def reset(self, gpu: int) -> None:
        """Reset a GPU from outside: instances and processes go, a pending mode becomes active."""
        with self.locked() as content:
            self._reset(content, gpu)

    def _reset(self, content: state.State, index: int) -> None:
        gpu = content.gpus[index]
        gpu.mode = gpu.pending
        for gi in gpu.instances:
            gi.used = 0
        for process in content.processes:
            if process.gpu == index:
                process.used = 0

    def reboot(self) -> None:
        """Boot again: no instances, no processes; MIG mode stays on Ampere and goes on later GPUs; lost GPUs are back."""
        with self.locked() as content:
            content.boots += 1
            for index in range(content.gpu_count):
                self._reset(content, index)
                gpu = content.gpus[index]
                gpu.lost = 0
                if not content.models[gpu.model].mode_survives_reboot:
                    gpu.mode = gpu.pending = 0

    def configure(
        self,
        *,
        privileged: bool | None = None,
        mig_functions: bool | None = None,
        driver_loaded: bool | None = None,
        driver_version: str | None = None,
    ) -> None:
        """Change what the driver is: rights of the user, a driver from before MIG, not loaded, its version."""
        with self.locked() as content:
            if privileged is not None:
                content.unprivileged = int(not privileged)
            if mig_functions is not None:
                content.without_mig = int(not mig_functions)
            if driver_loaded is not None:
                content.driver_loaded = int(driver_loaded)
            if driver_version is not None:
                content.driver_version = driver_version.encode()

    @staticmethod
    def profile_ids(model: str) -> dict[str, int]:
        """Profile name to the driver's id on a GPU model."""
        return profile_ids(model)
