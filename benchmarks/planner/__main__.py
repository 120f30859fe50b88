"""Command line of the planner's benchmarks; prints tables in Markdown, ends with 1 where something does not hold."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from itertools import product
from typing import TYPE_CHECKING

from benchmarks.planner import speed
from benchmarks.planner.tables import head, seconds, table
from partitioner.errors import PartitionerError

if TYPE_CHECKING:
    from benchmarks.planner.fleets import Outcome
    from benchmarks.planner.mixes import Mix
    from benchmarks.planner.online import Contest
    from benchmarks.planner.online_speed import Speed
    from benchmarks.planner.quality import Rival
    from benchmarks.planner.service_quality import ServiceComparison


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark and print its table.

    Parameters
    ----------
    arguments : command line without the program; None takes the process's own.

    Returns
    -------
    0 when everything holds, 1 when something does not, 2 for wrong input.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    options = _parser().parse_args(arguments)
    try:
        body, holds = options.run(options)
    except PartitionerError as error:
        print(error, file=sys.stderr)
        return 2
    print(head(shlex.join(arguments)))
    print(body)
    return 0 if holds else 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description="Speed and quality of the planner.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add = commands.add_parser("speed", help="seconds and memory from one workload to a million")
    add.add_argument("--sizes", type=_positive, nargs="+", default=list(speed.SIZES), metavar="N", help="replicas in all")
    add.add_argument("--forms", choices=speed.FORMS, nargs="+", default=list(speed.FORMS), help="forms of the input")
    add.set_defaults(run=_speed)
    add = commands.add_parser("quality", help="GPUs used against heuristics and against the direct model")
    add.add_argument("--sizes", type=_positive, nargs="+", default=[50, 1_000, 100_000], metavar="N", help="replicas in all")
    add.add_argument("--mixes", nargs="+", default=[], metavar="NAME", help="mixes of profiles (all)")
    add.add_argument("--direct", type=_positive, nargs="*", default=[20, 50, 200], metavar="N", help="replicas (direct model)")
    add.add_argument("--time-limit-s", type=_seconds, default=20.0, help="for the direct model [s]")
    add.set_defaults(run=_quality)
    add = commands.add_parser("closed-form", help="the planner against the closed form on random demands")
    add.add_argument("--demands", type=_positive, default=10_000, metavar="N", help="how many demands")
    add.set_defaults(run=_closed_form)
    add = commands.add_parser("services", help="services from a calibration: speed, proof, and GPUs used against peers")
    add.add_argument(
        "--sizes", nargs="+", default=["11", "24", "100"], metavar="N", help="services, of which there are 11, 24, 100"
    )
    add.add_argument("--scenarios", choices=("batch", "server"), nargs="+", default=["batch", "server"], help="kinds of latency")
    add.set_defaults(run=_services)
    add = commands.add_parser("fleets", help="inventories, limits of hosts, replicas that must not meet")
    known = "demands, hosts, few-hosts, spread, exclusions, failures (all)"
    add.add_argument("--cases", nargs="+", default=[], metavar="NAME", help=known)
    add.set_defaults(run=_fleets)
    add = commands.add_parser("reconfigure", help="fragmented fleets: GPUs and moves against greedy evacuation")
    add.add_argument("--sizes", type=_positive, nargs="+", default=[1_000, 10_000, 100_000], metavar="N", help="GPUs")
    add.add_argument(
        "--mixes", nargs="+", default=["uniform", "small-heavy", "large-heavy"], metavar="NAME", help="mixes of profiles"
    )
    add.add_argument("--occupancy", type=_share, nargs="+", default=[0.5, 0.7], metavar="X", help="share of memory slices taken")
    add.set_defaults(run=_reconfigure)
    add = commands.add_parser("steps", help="steps between two layouts: time and interruptions against clearing GPUs")
    add.add_argument("--gpus", type=_positive, nargs="+", default=[1_000, 10_000], metavar="N", help="GPUs of the fleet")
    add.add_argument("--mixes", nargs="+", default=["uniform", "small-heavy"], metavar="NAME", help="mixes of profiles")
    add.set_defaults(run=_steps)
    add = commands.add_parser("online", help="requests that come and go: acceptance against rivals and a bound, and speed")
    add.add_argument("--mixes", nargs="+", default=[], metavar="NAME", help="mixes of profiles (all)")
    loads = [0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2]
    add.add_argument("--loads", type=_load, nargs="+", default=loads, metavar="X", help="offered loads in slices (0.6 to 1.2)")
    add.add_argument("--gpus", type=_positive, default=100, metavar="N", help="GPUs of the acceptance (100)")
    add.add_argument("--requests", type=_positive, default=30_000, metavar="N", help="requests counted for each seed (30,000)")
    add.add_argument("--seeds", type=_positive, default=4, metavar="N", help="runs to add up (4)")
    add.add_argument("--budget", type=_positive, default=5, metavar="N", help="most migrations to make room for a request (5)")
    add.add_argument("--speed", type=_positive, nargs="*", default=[1_000, 100_000], metavar="N", help="GPUs of the speed rows")
    add.set_defaults(run=_online)
    for command in commands.choices.values():
        command.add_argument("--seed", type=_seed, default=1, help="of all random numbers (1)")
    return parser


def _positive(text: str) -> int:
    try:
        number = int(text.replace("_", ""))
    except ValueError:
        number = 0
    if not 1 <= number <= 10_000_000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 to 10,000,000")
    return number


def _seconds(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number <= 86_400:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds above 0, at most 86,400")
    return number


def _share(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a share above 0 and below 1")
    return number


def _load(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0.01 <= number <= 10:
        raise argparse.ArgumentTypeError(f"{text!r} is not a load from 0.01 to 10")
    return number


def _seed(text: str) -> int:
    if not (text.isdecimal() and int(text) < 2**31):
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 to 2,147,483,647")
    return int(text)


def _speed(options: argparse.Namespace) -> tuple[str, bool]:
    rows, holds = [], True
    for form in options.forms:
        for size in options.sizes:
            timing = speed.measure_apart(form, size, seed=options.seed)
            holds &= timing.holds
            rows.append(_speed_row(timing))
    columns = ["input", "plan", "peak memory", "target", "holds", "GPUs", "bound", "status", "certificate"]
    return table([*columns, "make input", "list all", "import", "first plan"], rows), holds


def _speed_row(timing: speed.Timing) -> list[object]:
    target = timing.target
    wanted = "" if target is None else f"< {seconds(target.seconds)}"
    if target is not None and target.memory_mib is not None:
        wanted += f", < {target.memory_mib:,.0f} MiB"
    return [
        f"{timing.size:,} {timing.form if timing.size > 1 else timing.form[:-1]}",
        seconds(timing.plan_s),
        f"{timing.memory_mib:,.0f} MiB",
        wanted,
        "yes" if timing.holds else "NO",
        timing.gpus,
        timing.bound,
        timing.status,
        timing.certificate,
        seconds(timing.make_s),
        seconds(timing.list_s),
        seconds(timing.import_s),
        seconds(timing.first_s),
    ]


def _quality(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.mixes import mixes
    from benchmarks.planner.quality import PEERS, compare

    chosen, holds, rows = mixes(options.mixes), True, []
    for mix in chosen:
        for size in options.sizes:
            result = compare(mix, size, seed=options.seed)
            holds &= result.status == "optimal" and all(result.bound <= peer.gpus for peer in result.peers.values())
            cells: list[object] = [mix.name, size, result.bound, result.planner.gpus, seconds(result.planner.seconds)]
            for name in PEERS:
                peer = result.peers[name]
                cells += [peer.gpus, f"{100 * (peer.gpus / result.bound - 1):+.2f}%", seconds(peer.seconds)]
            rows.append(cells)
    columns = ["mix", "replicas", "bound", "planner", "time"]
    body = table(columns + [text for name in PEERS for text in (name, "over the bound", "time")], rows)
    body += "\n\nThe planner's time is from separately named workloads to the verified plan, the heuristics' from profile names"
    body += " to placements; the best of three each."
    if options.direct:
        text, within = _direct(options, chosen)
        body, holds = f"{body}\n\n{text}", holds and within
    return body, holds


def _direct(options: argparse.Namespace, chosen: Sequence[Mix]) -> tuple[str, bool]:
    from benchmarks.planner.quality import compare_direct

    holds, rows = True, []
    for mix in chosen:
        for size, totals in product(options.direct, (False, True)):
            found = compare_direct(mix, size, totals=totals, seed=options.seed, time_limit_s=options.time_limit_s)
            holds &= found.direct.gpus is None or found.bound <= found.direct.gpus
            rows.append(
                [
                    mix.name,
                    size,
                    found.planner.gpus,
                    seconds(found.planner.seconds),
                    "with totals" if totals else "plain",
                    "none" if found.direct.gpus is None else found.direct.gpus,
                    found.direct.bound,
                    "yes" if found.direct.proven else "no",
                    seconds(found.direct_s),
                    found.direct.booleans,
                    round(found.direct_s / found.planner.seconds),
                ]
            )
    columns = ["mix", "replicas", "planner", "time", "direct model", "GPUs", "bound", "proven", "time", "booleans", "slower by"]
    text = (
        "Against the direct model, a boolean for each (replica, GPU, placement), plain and with the totals of memory and compute"
        f" slices as rows of their own; CP-SAT on all cores for at most {options.time_limit_s:g} s:"
    )
    return f"{text}\n\n{table(columns, rows)}", holds


def _closed_form(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.formula import check

    result = check(options.demands, seed=options.seed)
    row = [
        result.demands,
        result.equal,
        f"{result.smallest_gpus:,} to {result.largest_gpus:,}",
        f"{result.demands / result.planner_s:,.0f}",
        f"{result.demands / result.formula_s:,.0f}",
    ]
    columns = ["random demands", "planner equals formula", "GPUs", "plans per second", "formulas per second"]
    return table(columns, [row]), result.equal == result.demands


def _services(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.service_peers import SERVICE_PEERS
    from benchmarks.planner.service_quality import compare_services
    from benchmarks.planner.services import sizes

    found = [
        compare_services(size, scenario=scenario, seed=options.seed)
        for scenario in options.scenarios
        for size in sizes(options.sizes)
    ]
    columns = ["services", "scenario", "GPUs", "bound", "gap", "status", "certificate", "plan", "deadline", "wanted", "holds"]
    body = table([*columns, "rating alone"], [_service_row(result) for result in found])
    body += "\n\nGPUs over the bound, on the same input with the same figures:\n\n"
    columns = ["services", "scenario", "bound", "planner", "over the bound"]
    columns += [text for name in SERVICE_PEERS for text in (name, "over the bound", "time")]
    body += table(columns, [_service_rivals(result) for result in found])
    body += (
        "\n\nThe plan's time is from the services to the verified plan, once. It includes looking the figures up in a calibration"
        " that has answered nothing yet, which alone takes the time of the last column; the peers have them for nothing. In the"
        " server scenario the smallest profile that keeps a latency, which first fit takes, may do so at a few requests/s only."
    )
    body += "".join(
        f"\n\nWRONG: {result.size.services} services, {result.scenario}: "
        + ", ".join(result.short or ["a peer is below the bound"])
        for result in found
        if not result.sound
    )
    return body, all(result.holds for result in found)


def _service_row(result: ServiceComparison) -> list[object]:
    return [
        result.size.services,
        result.scenario,
        result.planner.gpus,
        result.bound,
        f"{100 * result.gap:.3f}%",
        result.status,
        result.certificate,
        seconds(result.planner.seconds),
        _deadline(result.size.seconds, kept=result.in_time),
        _wanted(result.size.gap),
        "yes" if result.holds else "NO",
        seconds(result.rating_s),
    ]


def _service_rivals(result: ServiceComparison) -> list[object]:
    def cells(rival: Rival) -> list[object]:
        return [rival.gpus, f"{rival.gpus - result.bound:+,} ({100 * (rival.gpus / result.bound - 1):+.2f}%)"]

    row = [result.size.services, result.scenario, result.bound, *cells(result.planner)]
    for rival in result.peers.values():
        row += [*cells(rival), seconds(rival.seconds)]
    return row


def _deadline(wanted_s: float, *, kept: bool) -> str:
    return f"{seconds(wanted_s)}, {'kept' if kept else 'MISSED'}"


def _wanted(gap: float) -> str:
    return f"within {100 * gap:g}%" if gap else "proven"


def _fleets(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.fleets import cases, run

    found = [run(case, seed=options.seed) for case in cases(options.cases, seed=options.seed)]
    columns = ["case", "workloads", "replicas", "placed", "decided by", "value", "bound", "gap", "status", "certificate"]
    body = table([*columns, "plan", "deadline", "wanted", "holds"], [_fleet_row(outcome) for outcome in found])
    body += "\n\nThe plan's time is from the workloads and the fleet, made before, to the verified plan, once."
    return body, all(outcome.holds for outcome in found)


def _fleet_row(outcome: Outcome) -> list[object]:
    case = outcome.case
    value, bound = outcome.stages[case.stage]
    return [
        case.name,
        len(case.workloads),
        case.replicas,
        outcome.placed,
        case.stage,
        value,
        bound,
        f"{100 * outcome.gap:.3f}%",
        outcome.status,
        outcome.certificate,
        seconds(outcome.plan_s),
        _deadline(case.seconds, kept=outcome.in_time),
        _wanted(case.gap),
        "yes" if outcome.holds else "NO",
    ]


def _steps(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.mixes import mixes
    from benchmarks.planner.steps import CASES, DEADLINE_S, compare

    rows, holds = [], True
    chosen = mixes(options.mixes)
    for gpus, mix, case in product(options.gpus, chosen, CASES):
        planned = case != "everything"
        if not planned and mix is not chosen[-1]:
            continue  # it has profiles of its own
        way = compare(case, mix, gpus)
        holds &= way.interrupted <= way.cleared and not (planned and gpus <= 10_000 and way.seconds > DEADLINE_S)
        cells = [
            f"{case}, {mix.name}" if planned else case,
            gpus,
            way.changed,
            way.steps,
            way.moved,
            way.interrupted,
            way.cleared,
        ]
        rows.append([*cells, seconds(way.seconds), f"{way.seconds / way.reading_s:.1f}"])
    columns = ["goal", "GPUs", "changed", "steps", "moves", "interrupted", "by clearing", "time", "x reading both"]
    return table(columns, rows), holds


def _reconfigure(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.mixes import mixes
    from benchmarks.planner.reconfigure import compare

    cases = product(mixes(options.mixes), options.occupancy, options.sizes)
    found = [compare(mix, size, occupancy=occupancy, seed=options.seed) for mix, occupancy, size in cases]
    columns = [
        "mix",
        "occupancy",
        "GPUs",
        "in use",
        "instances",
        "GPUs after",
        "moves",
        "in sequence",
        "proven",
        "plan",
        "deadline",
    ]
    body = table(
        [*columns, "GPUs after evacuation", "moves of evacuation", "fewest with as many", "its time", "holds"],
        [
            [
                result.mix,
                f"{result.occupancy:.0%}",
                result.gpus,
                result.used,
                result.instances,
                result.planner.gpus,
                result.planner.moves,
                result.sequential,
                "both" if result.proven else "NO",
                seconds(result.planner.seconds),
                "" if result.deadline_s is None else seconds(result.deadline_s),
                result.evacuation.gpus,
                result.evacuation.moves,
                "not proven" if result.as_many is None else result.as_many,
                seconds(result.evacuation.seconds),
                "yes" if result.holds else "NO",
            ]
            for result in found
        ],
    )
    return body, all(result.holds for result in found)


def _online(options: argparse.Namespace) -> tuple[str, bool]:
    from benchmarks.planner.online import contest, online_mixes
    from benchmarks.planner.online_speed import measure_speed

    seeds = range(options.seed, options.seed + options.seeds)
    found = [
        contest(mix, load=load, gpus=options.gpus, n=options.requests, seeds=seeds, budget=options.budget)
        for mix in online_mixes(options.mixes)
        for load in options.loads
    ]
    holds = all(result.holds for result in found)
    names = list(found[0].scores)
    body = f"{options.gpus:,} GPUs, {options.seeds} x {options.requests:,} requests; accepted, by requests:\n\n"
    body += table(["mix", "load", *names, "holds"], [_contest_row(result, "requests") for result in found])
    body += "\n\nBy memory slices:\n\n"
    columns = ["mix", "load", *names, "gap closed", "migrations per accepted request"]
    body += table(columns, [_contest_row(result, "slices") for result in found])
    body += (
        "\n\nMoving makes room for a request that does not fit, with at most"
        f" {options.budget} migrations, or refuses it. The gap is that between no migration and unlimited migration, in slices."
        " Unlimited migration accepts whatever fits; since it takes large requests that others refuse, it bounds slices, not"
        " requests."
    )
    if options.speed:
        speeds = [measure_speed(gpus, seed=options.seed) for gpus in options.speed]
        holds &= all(result.holds for result in speeds)
        columns = ["GPUs", "policy", "operations/s", "holds", "accepted", "first-fit scan/s", "ratio", "dict entry/s", "ratio"]
        body += "\n\nPlaces and releases in turn on one core, GPUs nine tenths full; the best of three rounds:\n\n"
        body += table(columns, [_online_speed_row(result) for result in speeds])
    return body, holds


def _contest_row(result: Contest, measure: str) -> list[object]:
    row: list[object] = [result.mix, f"{result.load:g}"]
    row += [f"{100 * getattr(score, measure):.2f}%" for score in result.scores.values()]
    if measure == "requests":
        return [*row, ("yes" if result.holds else "NO") if result.judged else ""]
    return [*row, f"{100 * result.gap_closed:.0f}%", f"{result.moving.migrations_per_accepted:.4f}"]


def _online_speed_row(result: Speed) -> list[object]:
    return [
        f"{result.gpus:,}",
        result.policy,
        round(result.per_s),
        "yes" if result.holds else "NO",
        f"{100 * result.accepted:.1f}%",
        round(result.scan_per_s),
        f"{result.per_s / result.scan_per_s:,.1f}",
        round(result.dict_per_s),
        f"{result.per_s / result.dict_per_s:.3f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
