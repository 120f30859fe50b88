"""What one load generator process can do, against a real tritonserver with a model that does nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from benchmarks.load.log import RequestLog
from benchmarks.load.summary import cpu_us_per_request, slip_p99_ms, throughput_per_s
from benchmarks.load.values import Load, Rules
from benchmarks.models.model import model
from benchmarks.quality.clients import measure
from benchmarks.quality.figures import Bounded
from benchmarks.servers import ServerTask, server_for, usable_cores

RATE_PER_S = 4000.0
SLIP_MS = 5.0
CPU_US = 100.0
SHARE_OF_SERVER = 0.9
CONCURRENCY = 32


def client_keeps_up(
    seconds: float, *, repeats: int = 3, seed: int = 0, processes: Sequence[int] = (1, 2, 3)
) -> Iterator[Bounded]:
    """Yield how well a process keeps a rate, what a request costs it, and its share of what the server can do at most.

    The server has all cores but two, which the load generators have for themselves, where there are four or more.

    Parameters
    ----------
    seconds : of each run [s].
    repeats : of each run, of which the best counts: other programs can only make it worse.
    seed : of the arrivals.
    processes : numbers of load generators among which the server's most is looked for; 1 is the first.
    """
    cores = usable_cores()
    spare = cores[-2:] if len(cores) >= 4 else ()
    server = server_for(ServerTask(name="quality", kind="triton", model=model("echo"), cores=cores[: len(cores) - len(spare)]))
    server.start()
    try:
        yield from _rate(server.address, seconds, spare, repeats=repeats, seed=seed)
        yield from _closed_loop(server.address, seconds, spare, repeats=repeats, numbers=processes)
    finally:
        server.stop()


def _rate(address: str, seconds: float, cores: Sequence[int], *, repeats: int, seed: int) -> Iterator[Bounded]:
    rules = Rules(min_duration_s=seconds)
    loads = [Load("server", rules, rate_per_s=RATE_PER_S, seed=seed + repeat) for repeat in range(repeats)]
    logs = [measure(address, model("echo"), load, cores=cores)[0] for load in loads]
    best = min(logs, key=slip_p99_ms)
    case = f"server, {RATE_PER_S:,.0f}/s"
    yield Bounded(case, "answered [1/s]", throughput_per_s(best), 0.98 * RATE_PER_S, least=True)
    yield Bounded(case, "slip p99 [ms]", slip_p99_ms(best), SLIP_MS)
    yield Bounded(case, "busy [cores]", (best.loop_cpu_s or 0.0) / best.end_s, 0.9)


def _closed_loop(
    address: str, seconds: float, cores: Sequence[int], *, repeats: int, numbers: Sequence[int]
) -> Iterator[Bounded]:
    """Look at what a request costs, and compare one process with several that have as many requests in flight together."""

    def best(processes: int, in_flight: int, at: Sequence[int]) -> list[RequestLog]:
        load = Load("offline", Rules(min_duration_s=seconds), concurrency=in_flight // processes)
        tries = [measure(address, model("echo"), load, processes=processes, cores=at) for _ in range(repeats)]
        return max(tries, key=_together_per_s)

    (one,) = best(1, CONCURRENCY, cores)
    yield Bounded(f"closed loop, {CONCURRENCY} in flight", "CPU of a request [us]", cpu_us_per_request(one), CPU_US)
    in_flight = CONCURRENCY * max(numbers)
    # several may use any core: what they reach is what the server can do, not what fits beside it
    alone_per_s, *others = (_together_per_s(best(number, in_flight, cores if number == 1 else ())) for number in numbers)
    case = f"closed loop, {in_flight} in flight"
    yield Bounded(case, "answered [1/s]", alone_per_s, RATE_PER_S, least=True)
    yield Bounded(case, "share of the server's most", alone_per_s / max([alone_per_s, *others]), SHARE_OF_SERVER, least=True)


def _together_per_s(logs: Sequence[RequestLog]) -> float:
    return sum(map(throughput_per_s, logs))
