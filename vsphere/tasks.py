"""Many tasks of a vCenter at once: begun by a few threads, bounded for each host, waited for by one WaitForUpdatesEx.

A task is registered for waiting while others are still being begun, many with one call, so that waiting costs no round trip
for each. Tasks that end at once are found ended by one read of all of them. This module must not know what the tasks do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial

from partitioner.errors import SpecError
from vsphere.running import Job, Outcome, Progress, Run
from vsphere.session import Session
from vsphere.waiting import Waiting

__all__ = ["IN_FLIGHT", "PER_HOST", "Job", "Outcome", "Progress", "carry_out"]

IN_FLIGHT = 16
"""Most calls that begin tasks at a time."""
PER_HOST = 8
"""Most tasks of one host that run at a time; vCenter queues what goes beyond such limits of its own."""

_WAIT_S = 20  # one wait ends after this, whatever happens; the next begins at once


def carry_out(
    session: Session,
    jobs: Iterable[Job],
    *,
    in_flight: int = IN_FLIGHT,
    per_host: int = PER_HOST,
    progress: Callable[[Progress], None] | None = None,
    stop_on_error: bool = False,
    timeout_s: float = 3600.0,
) -> tuple[Outcome, ...]:
    """Carry jobs out and wait for all of them.

    Parameters
    ----------
    session : where to.
    jobs : begun in their order; where a host is at its bound, jobs of other hosts go first. With `per_host` 1 the jobs of a
        host run one after another in their order.
    in_flight : most calls that begin tasks at a time.
    per_host : most unfinished tasks of one host.
    progress : told what happens, in the thread of the caller.
    stop_on_error : begin nothing more once one failed.
    timeout_s : longest time that one task may take [s]; it goes on in vCenter then, but is no longer waited for.

    Returns
    -------
    Outcomes in the order of the jobs. A job whose task failed, could not be begun or is not known any more has an error in it;
    nothing is raised for it.

    Raises
    ------
    SpecError
        A bound is not positive.
    VSphereError
        Waiting itself is not possible any more; tasks that were begun go on in vCenter.
    """
    if in_flight < 1 or per_host < 1:
        raise SpecError(f"in_flight is {in_flight} and per_host is {per_host}; both must be at least 1")
    run = Run(session.who, tuple(jobs), per_host, stop_on_error=stop_on_error)
    waiting = Waiting(session)
    threads = min(in_flight, len(run.jobs))
    with ThreadPoolExecutor(max_workers=threads + 1, thread_name_prefix="vsphere-tasks") as pool:
        try:
            for _ in range(threads):
                pool.submit(run.guarded, run.begin_all)
            pool.submit(run.guarded, partial(run.register_all, waiting))
            longest_s = max(1, min(_WAIT_S, int(session.stub.timeout_s / 2), math.ceil(timeout_s)))
            while run.ready():
                run.tell(progress)
                for task, changed in waiting.changes(longest_s):
                    run.note(task, changed)
                run.expire(timeout_s)
            run.tell(progress)
        finally:
            run.stop()
            for close in waiting.closings():
                pool.submit(close)
    return tuple(run.outcomes[number] for number in range(len(run.jobs)))
