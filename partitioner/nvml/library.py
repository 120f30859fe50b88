"""NVML itself: loaded, initialised and called. The only module that imports pynvml.

A call into the driver can hang in C for ever, where nothing can stop it. So all calls run in one worker thread, and who
asks waits for each of them a limited time; after a call that did not return the library refuses all others. The thread is a
daemon, so that the process can end. This module must not know what the calls are for.
"""

from __future__ import annotations

import ctypes
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import contextmanager
from types import ModuleType
from typing import Any, NamedTuple, TypeVar

from partitioner.errors import InUseError, TargetError
from partitioner.nvml import words

Handle = Any
"""A GPU, a GPU instance or a compute instance, as pynvml hands it out; good as long as the thing exists."""

_T = TypeVar("_T")


_GPU_INSTANCE_PROFILES = 18  # of NVML 13; older bindings count fewer (graphics and media profiles came later)


class _Call(NamedTuple):
    """A call that runs now: the function, the GPU, and since when (monotonic clock) [s]."""

    name: str
    who: str
    since: float


class NvmlError(TargetError):
    """NVML returned an error.

    Attributes
    ----------
    code : NVML's number for it.
    """

    def __init__(self, message: str, code: int) -> None:
        self.code = code
        super().__init__(message)


class NvmlInUseError(NvmlError, InUseError):
    """NVML says that something uses what was to be changed; it does not say who."""

    def __init__(self, message: str, code: int = words.IN_USE) -> None:
        NvmlError.__init__(self, message, code)
        self.pids = ()


def _serve(tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None]) -> None:
    while (task := tasks.get()) is not None:
        answer, function = task
        try:
            answer.set_result(function())
        except BaseException as error:  # noqa: BLE001 - handed to who asked, where it is raised
            answer.set_exception(error)


class Library:
    """NVML, initialised.

    Parameters
    ----------
    timeout_s : longest wait for one call [s].
    host : name of this machine for messages.

    Raises
    ------
    TargetError
        pynvml is not installed, the driver's library is not there, or it cannot be initialised.
    """

    def __init__(self, *, timeout_s: float, host: str) -> None:
        self.timeout_s, self.host = timeout_s, host
        self._hung: str | None = None
        self._now: _Call | None = None
        self._open = False
        self._nvml = _pynvml()
        self._tasks: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=_serve, args=(self._tasks,), name="nvml", daemon=True)
        self._thread.start()
        try:
            self.start()
        except TargetError:
            self._tasks.put(None)
            raise

    # -- life ------------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Initialise NVML; nothing happens where it is.

        Raises
        ------
        TargetError
            It cannot be initialised.
        """
        if not self._open:
            self.call("nvmlInit")
            self._open = True

    def stop(self) -> None:
        """Shut NVML down, so that this process is no client of the driver; nothing happens where a call hangs.

        Raises
        ------
        TargetError
            The driver refused.
        """
        if self._open and self._hung is None:
            self._open = False
            self.call("nvmlShutdown")

    def close(self) -> None:
        """Shut NVML down and end the worker thread.

        Raises
        ------
        TargetError
            The driver refused; the thread ends all the same.
        """
        try:
            self.stop()
        finally:
            self._tasks.put(None)

    @contextmanager
    def stopped(self) -> Iterator[None]:
        """Shut NVML down for a while: a GPU is reset only while no process has it open."""
        self.stop()
        try:
            yield
        finally:
            self.start()

    # -- calls -----------------------------------------------------------------------------------------------------

    def run(self, function: Callable[[], _T]) -> _T:
        """Return what a function returns that makes several calls, all of them in the worker thread, which is faster.

        Raises
        ------
        TargetError
            A call in it did not return in time, or one before it did not; then the function makes no further call.
        """
        if threading.current_thread() is self._thread:
            return function()
        self._refuse_if_hung(self.host, "a call")
        answer: Future[_T] = Future()
        self._tasks.put((answer, function))
        while True:
            now = self._now
            left = self.timeout_s if now is None else now.since + self.timeout_s - time.monotonic()
            try:
                return answer.result(max(left, 0.001))
            except FutureTimeoutError as error:
                if answer.done():  # the function itself raised a time-out
                    raise
                if now is not None and self._now is now and now.since + self.timeout_s <= time.monotonic():
                    raise self._gave_up(now) from error

    def _gave_up(self, call: _Call) -> TargetError:
        self._hung = f"{call.name} on {call.who} did not return within {self.timeout_s:g} s"
        return TargetError(
            f"{call.who}: {call.name} did not return within {self.timeout_s:g} s; the driver may hang: see dmesg,"
            f" then {words.RESET_OR_REBOOT}. No further call is made; what this one did is not known, read the GPUs again"
        )

    def _refuse_if_hung(self, who: str, name: str) -> None:
        if self._hung is not None:
            raise TargetError(f"{who}: {name} was not made: {self._hung}; {words.RESET_OR_REBOOT}, then run it again")

    def call(self, name: str, *arguments: Any, who: str | None = None) -> Any:
        """Return what a function of pynvml returns.

        Parameters
        ----------
        name : its name, e.g. ``nvmlDeviceGetUUID``.
        arguments : its arguments.
        who : the GPU for messages; None names the host.

        Raises
        ------
        NvmlError
            It returned an error; `code` says which.
        TargetError
            It did not return in time, or another call before it did not.
        """
        return self.run(lambda: self._call(name, arguments, who or self.host))

    def _call(self, name: str, arguments: tuple[Any, ...], who: str) -> Any:
        self._refuse_if_hung(who, name)
        function = getattr(self._nvml, name)
        self._now = _Call(name, who, time.monotonic())
        try:
            return function(*arguments)
        except self._nvml.NVMLError as error:
            code = int(error.value)
            kind = NvmlInUseError if code == words.IN_USE else NvmlError
            raise kind(words.in_words(who, name, code), code) from error
        except UnicodeDecodeError as error:
            raise TargetError(f"{who}: {name}: the driver's answer is not UTF-8 text; {words.RESET_OR_REBOOT}") from error
        finally:
            self._now = None

    def call_or(self, codes: tuple[int, ...], otherwise: Any, name: str, *arguments: Any, who: str | None = None) -> Any:
        """Return what a function of pynvml returns, or `otherwise` where it returns one of some error codes.

        Raises
        ------
        TargetError
            As `call`, for other codes.
        """
        try:
            return self.call(name, *arguments, who=who)
        except NvmlError as error:
            if error.code in codes:
                return otherwise
            raise

    # -- calls that take or fill structs ---------------------------------------------------------------------------

    @property
    def gpu_instance_profiles(self) -> range:
        """NVML's enumerators of GPU instance profiles."""
        return range(max(int(self._nvml.NVML_GPU_INSTANCE_PROFILE_COUNT), _GPU_INSTANCE_PROFILES))

    @property
    def compute_instance_profiles(self) -> range:
        """NVML's enumerators of compute instance profiles."""
        return range(int(self._nvml.NVML_COMPUTE_INSTANCE_PROFILE_COUNT))

    def possible_placements(self, device: Handle, profile_id: int, *, who: str) -> tuple[tuple[int, int], ...]:
        """Return (start, size) of all places where a profile may ever be, whatever is on the GPU now.

        Raises
        ------
        TargetError
            They cannot be read; it takes root.
        """
        name, count = "nvmlDeviceGetGpuInstancePossiblePlacements", ctypes.c_uint(0)
        self.call(name, device, profile_id, None, ctypes.byref(count), who=who)
        places = (self._nvml.c_nvmlGpuInstancePlacement_t * max(1, count.value))()
        self.call(name, device, profile_id, places, ctypes.byref(count), who=who)
        return tuple((int(place.start), int(place.size)) for place in places[: count.value])

    def gpu_instances(self, device: Handle, profile_id: int, most: int, *, who: str) -> tuple[Handle, ...]:
        """Return the GPU instances of a profile, of which there are at most `most`.

        Raises
        ------
        TargetError
            They cannot be read; it takes root.
        """
        return self._instances("nvmlDeviceGetGpuInstances", self._nvml.c_nvmlGpuInstance_t, device, profile_id, most, who)

    def compute_instances(self, instance: Handle, profile_id: int, most: int, *, who: str) -> tuple[Handle, ...]:
        """Return the compute instances of a profile in a GPU instance, of which there are at most `most`.

        Raises
        ------
        TargetError
            They cannot be read; it takes root.
        """
        kind = self._nvml.c_nvmlComputeInstance_t
        return self._instances("nvmlGpuInstanceGetComputeInstances", kind, instance, profile_id, most, who)

    def _instances(self, name: str, kind: Any, parent: Handle, profile_id: int, most: int, who: str) -> tuple[Handle, ...]:
        count, found = ctypes.c_uint(0), (kind * max(1, most))()  # these calls do not say a size first, unlike others
        self.call(name, parent, profile_id, found, ctypes.byref(count), who=who)
        return tuple(found[: count.value])

    def create_gpu_instance(self, device: Handle, profile_id: int, start: int, size: int, *, who: str) -> Handle:
        """Create a GPU instance at a place and return it.

        Raises
        ------
        TargetError
            The driver refused.
        """
        place = self._nvml.c_nvmlGpuInstancePlacement_t(start, size)
        return self.call("nvmlDeviceCreateGpuInstanceWithPlacement", device, profile_id, ctypes.byref(place), who=who)


def text_of(value: bytes | str) -> str:
    """Return a text field of a struct, which pynvml decodes in some structs and not in others."""
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def _pynvml() -> ModuleType:
    try:
        import pynvml  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise TargetError(
            "pynvml is not installed, which NVIDIA's driver is called through; pip install 'gpu-partitioner[nvml]'"
        ) from error
    module: ModuleType = pynvml
    return module
