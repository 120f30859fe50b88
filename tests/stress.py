"""Plans random small fleets and compares each with brute force, for as long as asked; `make stress` runs it."""

from __future__ import annotations

import argparse
import random
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from test_planning import differs_from_brute_force, random_case

import partitioner as gp


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    rng = random.Random(arguments.seed)
    end, compared, incomplete = time.monotonic() + arguments.seconds, 0, 0
    while time.monotonic() < end:
        workloads, fleet = random_case(rng)
        plan = gp.plan(workloads, fleet=fleet)
        difference = differs_from_brute_force(plan, fleet)
        if difference:
            print(f"differs: {difference}")
            return 1
        compared, incomplete = compared + 1, incomplete + (not plan.complete)
    print(f"{compared} random fleets equal brute force, {incomplete} of them too small for all")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
