"""Plans random questions and compares each with brute force, for as long as asked; `make stress` runs it.

One round asks of everything in turn: fleets without rules, rules of every sort, services, repetition, time limits, and that
loosening never hurts. A round has a seed of its own, printed when something differs.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

import strategies
import test_rules
import test_services
from hypothesis import HealthCheck, given, seed, settings
from test_planning import differs_from_brute_force, random_case

import partitioner as gp
from partitioner.performance import Calibration


def plain(number: int) -> None:
    """Fleets without rules, with all that the catalogue has."""
    rng = random.Random(number)
    for _ in range(40):
        workloads, fleet = random_case(rng)
        difference = differs_from_brute_force(gp.plan(workloads, fleet=fleet), fleet)
        assert not difference, difference


def drawn(check: Callable[[strategies.Question], None], examples: int, **sizes: int) -> Callable[[int], None]:
    """Return what checks some random questions with rules."""

    def run(number: int) -> None:
        @seed(number)
        @settings(max_examples=examples, deadline=None, database=None, suppress_health_check=list(HealthCheck))
        @given(strategies.questions(**sizes))
        def each(question: strategies.Question) -> None:
            check(question)

        each()

    return run


def services(number: int) -> None:
    """Services with rules, on the table of the tests."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "table.csv"
        path.write_text(test_services.TABLE)
        test_services.check_random_services(Calibration.from_csv(path), number, 40)


LARGER = {"most_hosts": 3, "most_gpus": 3, "most_replicas": 9}
CHECKS: dict[str, Callable[[int], None]] = {
    "without rules": plain,
    "with rules": drawn(lambda question: test_rules.check_against_brute_force(question, most_tries=200_000), 300),
    "services": services,
    "the same seed": drawn(test_rules.check_repeats, 40, **LARGER),
    "time limits": drawn(lambda question: test_rules.check_limit(question, 0.1), 40, **LARGER),
    "loosening": drawn(test_rules.check_loosening, 30, **LARGER),
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    end, number = time.monotonic() + arguments.seconds, arguments.seed
    while time.monotonic() < end:
        for name, check in CHECKS.items():
            try:
                check(number)
            except Exception:
                print(f"{name}: round {number} failed; run again with --seed {number}")
                raise
        number += 1
    print(f"{number - arguments.seed} rounds of random questions equal brute force")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
