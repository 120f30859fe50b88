"""How long the planner takes and how much memory, from one workload to a million.

Every case runs in a fresh process of its own, so that no size profits or suffers from another. The parent imports
nothing large: on Linux a child's peak memory starts at that of its parent.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass

from partitioner.errors import PartitionerError

FORMS = ("replicas", "workloads", "dicts")
"""Forms of the input: as many replicas of a few workloads, separately named `Workload` values, dicts with their fields."""

SIZES = (1, 10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Replicas in all."""


@dataclass(frozen=True, slots=True)
class Target:
    """What is wanted of one case: at most so many seconds and so much memory."""

    seconds: float
    memory_mib: float | None = None


TARGETS = {
    ("replicas", 1_000_000): Target(1.0, 1024),
    ("workloads", 1_000_000): Target(8.0),
    ("replicas", 100): Target(0.030),
    ("workloads", 100): Target(0.030),
}


@dataclass(frozen=True, slots=True)
class Timing:
    """One case, measured.

    Parameters
    ----------
    form, size : the input, one of `FORMS` and the number of replicas.
    import_s : ``from partitioner import Workload, plan_mig`` [s].
    first_s : the first plan of the process, of one replica: reads the catalogue [s].
    make_s : making the input [s].
    plan_s : planning and verifying; the best of three where that takes less than a second [s].
    list_s : listing all assignments one by one, after the plan [s].
    memory_mib : peak memory of the process up to the end of planning, input included [MiB].
    placements : placements in the layout, all of them held by a replica.
    status, gpus, bound, certificate : of the plan.
    """

    form: str
    size: int
    import_s: float
    first_s: float
    make_s: float
    plan_s: float
    list_s: float
    memory_mib: float
    placements: int
    status: str
    gpus: int
    bound: int
    certificate: str

    @property
    def target(self) -> Target | None:
        """What is wanted of this case, if anything."""
        return TARGETS.get((self.form, self.size))

    @property
    def holds(self) -> bool:
        """Whether the case is proven optimal, places every replica and meets its target."""
        target = self.target
        in_time = target is None or self.plan_s < target.seconds
        in_memory = target is None or target.memory_mib is None or self.memory_mib < target.memory_mib
        return self.status == "optimal" and self.gpus == self.bound and self.placements == self.size and in_time and in_memory


def measure_apart(form: str, size: int, *, seed: int) -> Timing:
    """Measure one case in a fresh process.

    Parameters
    ----------
    form : one of `FORMS`.
    size : replicas in all.
    seed : of the mix.

    Raises
    ------
    PartitionerError
        The process failed; with the last line that it wrote.
    """
    command = [sys.executable, "-m", __name__, form, str(size), str(seed)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - this very module
    if done.returncode:
        said = (done.stderr.strip().splitlines() or ["it wrote no error"])[-1]
        raise PartitionerError(f"speed of {size:,} {form}: the process ended with {done.returncode}: {said}")
    return Timing(**json.loads(done.stdout))


def measure(form: str, size: int, *, seed: int) -> Timing:
    """Measure one case in this process, which ought to be fresh: see `measure_apart`."""
    started = time.perf_counter()
    from partitioner import Workload, plan_mig

    import_s = time.perf_counter() - started
    started = time.perf_counter()
    plan_mig({"1g.10gb": 1})
    first_s = time.perf_counter() - started
    from benchmarks.planner.mixes import EVERY_PROFILE, GPU  # reads the catalogue, so not before the first plan

    profiles = EVERY_PROFILE.draw(size, seed=seed)
    started = time.perf_counter()
    asked: list[Workload] | list[dict[str, str]]
    if form == "replicas":
        asked = [Workload(name, profile=name, count=count) for name, count in sorted(Counter(profiles).items())]
    elif form == "workloads":
        asked = [Workload(f"w{number}", profile=name) for number, name in enumerate(profiles)]
    else:
        asked = [{"name": f"w{number}", "profile": name} for number, name in enumerate(profiles)]
    make_s = time.perf_counter() - started

    started = time.perf_counter()
    plan = plan_mig(asked, gpu=GPU)
    plan_s = time.perf_counter() - started
    if plan_s < 1:
        for _ in range(3):
            del plan  # two plans at once would count twice in the peak
            started = time.perf_counter()
            plan = plan_mig(asked, gpu=GPU)
            plan_s = min(plan_s, time.perf_counter() - started)
    memory_mib = _peak_memory_mib()
    started = time.perf_counter()
    placements = sum(1 for _ in plan.assignments())
    list_s = time.perf_counter() - started
    return Timing(
        form=form,
        size=size,
        import_s=import_s,
        first_s=first_s,
        make_s=make_s,
        plan_s=plan_s,
        list_s=list_s,
        memory_mib=memory_mib,
        placements=placements,
        status=plan.status,
        gpus=plan.gpus_used,
        bound=plan.lower_bound,
        certificate=plan.certificate,
    )


def _peak_memory_mib() -> float:
    """Return the most memory that this process ever had [MiB]."""
    import resource  # not on Windows

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10  # macOS counts bytes


if __name__ == "__main__":
    print(json.dumps(asdict(measure(sys.argv[1], int(sys.argv[2]), seed=int(sys.argv[3])))))
