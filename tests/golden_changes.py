"""Golden cases of `diff`: a base, a goal, and the steps, or that there is nothing to do, or the error.

A case is a JSON file in tests/golden/changes. ``python tests/golden_changes.py NAME ...`` writes the outcome of today into
cases, to be read by a person before it is committed; without names it only says which cases differ.
"""

from __future__ import annotations

import json
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from partitioner.changes import Changes, diff
from partitioner.errors import PartitionerError
from partitioner.layout import GpuLayout, Layout, Slot

FOLDER = Path(__file__).parent / "golden" / "changes"
_SLOT = re.compile(r"(?P<profile>[^@]+)@(?P<start>\d+)(?P<ready>!?)(?P<busy>\*?)(?:=(?P<workload>.+)\.(?P<replica>\d+))?")


@dataclass(frozen=True)
class Case:
    name: str
    data: dict[str, Any]

    @property
    def base(self) -> Layout:
        return layout(self.data["base"])

    @property
    def goal(self) -> Layout:
        return layout(self.data["goal"])

    def changes(self) -> Changes:
        return diff(self.base, self.goal, **self.data.get("options", {}))

    def outcome(self) -> dict[str, Any]:
        try:
            changes = self.changes()
        except PartitionerError as error:
            return {"error": f"{type(error).__name__}: {error}"}
        return {"steps": str(changes).splitlines()} if changes else {"noop": True}

    @property
    def expected(self) -> dict[str, Any]:
        return {key: value for key, value in self.data.items() if key in ("steps", "noop", "error")}


def layout(lines: dict[str, str]) -> Layout:
    """Read ``{"a/gpu0": "A100-80GB mig 3g.40gb@0=chat.0 1g.10gb@4 1g.10gb@5!"}``.

    ``-`` stands for no mode, ``!`` for an instance that is not finished, ``*`` for one that somebody else uses.
    """
    gpus = []
    for label, text in lines.items():
        host, _, index = label.rpartition("gpu")
        model, mode, *slots = text.split()
        gpus.append(
            GpuLayout(host.rstrip("/") or None, int(index), model, None if mode == "-" else mode, tuple(map(_slot, slots)))
        )
    return Layout.of(gpus)


def _slot(text: str) -> Slot:
    match = _SLOT.fullmatch(text)
    assert match, text
    who = match["workload"]
    return Slot(
        match["profile"],
        int(match["start"]),
        who,
        int(match["replica"]) if who else None,
        not match["ready"],
        bool(match["busy"]),
    )


def cases() -> list[Case]:
    return [Case(path.stem, json.loads(path.read_text(encoding="utf-8"))) for path in sorted(FOLDER.glob("*.json"))]


def main() -> None:
    for case in cases():
        outcome = case.outcome()
        if outcome == case.expected:
            continue
        print(f"{case.name} differs")
        if case.name in sys.argv[1:]:
            data = {key: value for key, value in case.data.items() if key not in ("steps", "noop", "error")} | outcome
            (FOLDER / f"{case.name}.json").write_text(json.dumps(data, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
