"""The process of a server of ours, with its folder: launched, again if need be, and ended at any time from any thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import ServerError
from benchmarks.servers.guarded import Guarded
from benchmarks.servers.scratch import Scratch


class OwnProcess:
    """What a server of ours has, from before its start to after its end.

    Parameters
    ----------
    who : of messages.
    folder : for its log and its files, made where it is not there; empty: a temporary one, which goes with it.
    """

    def __init__(self, who: str, folder: str) -> None:
        self._who, self._given = who, folder
        self._folder = Path(folder)
        self._scratch: Scratch | None = None
        self._process: Guarded | None = None
        self._stopped = threading.Event()
        self._changing = threading.Lock()  # a stop waits for the process that is being started, and then ends it

    @property
    def status(self) -> int | None:
        """Exit status, ``-n`` after signal n; None while it runs, and before."""
        return self._process.status if self._process else None

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process is not None and self._process.status is None

    def log_tail(self, lines: int) -> tuple[str, ...]:
        """Return the last lines of what it said, oldest first."""
        return self._process.log_tail(lines) if self._process else ()

    def log_text(self) -> str:
        """Return what it said; of a long log the end."""
        return self._process.log_text() if self._process else ""

    def make_folder(self) -> Path:
        """Return its folder, which is there then.

        Raises
        ------
        ServerError
            It cannot be made.
        """
        try:
            if not self._given:
                self._scratch = Scratch("server")
            self._folder = (self._scratch.path if self._scratch else self._folder).resolve()
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise ServerError(
                f"{self._who} - its folder {error.filename} cannot be made: {error.strerror}; say another"
            ) from error
        return self._folder

    def launch(
        self,
        command: Sequence[str],
        *,
        log: Path,
        environment: Mapping[str, str],
        cores: Sequence[int],
        grace_s: float,
        shared: str = "",
    ) -> None:
        """Start it, in the place of one that was started before; the parameters are those of `Guarded`.

        Raises
        ------
        ServerError
            It cannot be started, or was stopped already.
        """
        with self._changing:
            self.require_wanted()
            if self._process is not None:
                self._process.stop()
            self._process = Guarded(
                command,
                who=self._who,
                log=log,
                environment=environment,
                cores=cores,
                shared=shared,
                scratch=self._scratch.path if self._scratch else None,
                grace_s=grace_s,
            )

    @contextmanager
    def starting(self) -> Iterator[None]:
        """End it where a start fails: nothing may be left of a server whose owner was told that there is none."""
        try:
            yield
        except BaseException:
            self.stop()
            raise

    def require_wanted(self) -> None:
        """Check that nobody has stopped it meanwhile.

        Raises
        ------
        ServerError
            Somebody has.
        """
        if self._stopped.is_set():
            raise ServerError(f"{self._who} - was stopped while it was starting")

    def stop(self) -> None:
        """End it; nothing is left of it but its log, where its folder was given."""
        self._stopped.set()
        with self._changing:
            if self._process is not None:
                self._process.stop()
        if self._scratch is not None:
            self._scratch.remove()
