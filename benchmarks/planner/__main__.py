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
    from benchmarks.planner.mixes import Mix


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


if __name__ == "__main__":
    sys.exit(main())
