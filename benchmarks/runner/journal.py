"""The folder of a study: what was asked, and each repeat as it is measured, so that a run that was killed can go on.

    study.json                                 what was asked
    4g+2g+1g.resnet50.offline/repeat-1.json    each repeat, a result of its own, with the latencies of its requests beside it
    4g+2g+1g.resnet50.offline/logs/            what the load generators and LoadGen wrote
    4g+2g+1g.resnet50.offline.json             all repeats together

Every file is there whole or not at all. Knows no servers.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from benchmarks.errors import BenchmarkError
from benchmarks.results import Result
from benchmarks.scenarios import Study
from partitioner.errors import Problem, SpecError

_STUDY = "study.json"


class Journal:
    """What is kept of a study, in a folder.

    Parameters
    ----------
    folder : where; made by `begin`.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        self.folder = Path(folder)

    def begin(self, study: Study) -> None:
        """Write the study down, or see that it is the one which stands there.

        Raises
        ------
        SpecError
            The folder holds another study, or cannot be written.
        """
        path = self.folder / _STUDY
        if path.exists():
            if Study.load(path) != study:
                text = "holds another study; continue it with `partitioner bench resume`, or name another folder"
                raise SpecError(Problem(text, str(self.folder)))
            return
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise SpecError(
                Problem(f"cannot be made: {error.strerror or error}; name another folder", str(self.folder))
            ) from error
        study.save(path)

    def study(self) -> Study:
        """Return the study that was begun here.

        Raises
        ------
        SpecError
            There is none.
        """
        path = self.folder / _STUDY
        if not path.exists():
            raise SpecError(
                Problem(f"has no {_STUDY}; name the folder that `partitioner bench run --out` wrote", str(self.folder))
            )
        return Study.load(path)

    def repeat(self, key: str, number: int) -> Result | None:
        """Return one repeat of one measurement, None where it is missing."""
        path = self._repeat(key, number)
        return Result.load(path) if path.exists() else None

    def results(self) -> tuple[Result, ...]:
        """Return the complete results, in the order in which the study names them."""
        known = {path: Result.load(path) for path in sorted(self.folder.glob("*.json")) if path.name != _STUDY}
        if not (self.folder / _STUDY).exists():
            return tuple(known.values())
        order = [(scenario.name, Path(model).name.removesuffix(".onnx"), mode) for scenario, model, mode in self.study()]
        by_question = {(r.metadata.scenario, r.metadata.model, r.metadata.mode): r for r in known.values()}
        return tuple(by_question[question] for question in order if question in by_question)

    def record(self, key: str, number: int, result: Result, logs: Mapping[str, Mapping[str, bytes]]) -> None:
        """Write one repeat down.

        Parameters
        ----------
        key : of the measurement.
        number : of the repeat, from 1.
        result : of this repeat alone.
        logs : of each instance, by name of the file.

        Raises
        ------
        BenchmarkError
            There is no room left, or the folder cannot be written; the repeats before still stand.
        """
        path = self._repeat(key, number)
        try:
            for instance, files in logs.items():
                folder = path.parent / "logs" / f"repeat-{number}" / instance
                if files:
                    folder.mkdir(parents=True, exist_ok=True)
                for name, content in files.items():
                    (folder / name).write_bytes(content)
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            message = f"{path.parent}: cannot be written: {error.strerror or error}; make room, then resume"
            raise BenchmarkError(message) from error
        result.save(path)

    def finish(self, key: str, result: Result) -> None:
        """Write all repeats of one measurement down together."""
        result.save(self.folder / f"{key}.json")

    def _repeat(self, key: str, number: int) -> Path:
        return self.folder / key / f"repeat-{number}.json"

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Keep other processes from running the same study; the lock falls when the process ends, however it ends.

        Raises
        ------
        BenchmarkError
            Another process runs it.
        """
        path = self.folder / ".lock"
        try:
            file = path.open("a")
        except OSError as error:
            raise BenchmarkError(f"{path}: cannot be written: {error.strerror}; make room, or make the folder yours") from error
        with file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                raise BenchmarkError(
                    f"{self.folder}: another process runs this study now; wait for it, or name another folder"
                ) from error
            yield
