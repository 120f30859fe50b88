"""Which way of cutting an A100 serves most? A measurement as a program.

Its servers are emulated unless told otherwise: they answer as late as published tables say and infer nothing, so that it
runs anywhere in seconds. With `triton` it is in earnest, in minutes: real inference, on a GPU that is cut so or on slices of
the CPU.

    python examples/measure.py [emulated | triton] [REPORT.html]
    partitioner bench run examples/measure/study.yaml --out results     from a file, which explains every field
"""

import sys

from benchmarks import compare, run
from benchmarks.reporting import save_report

SCENARIOS = ("7g", "4g+2g+1g", "7x1g")


def main() -> None:
    """Measure ResNet-50 in each scenario, and put the scenarios side by side."""
    servers = sys.argv[1] if len(sys.argv) > 1 else "emulated"
    short = {"repeats": 1, "duration_s": 0.5, "warmup_s": 0.2} if servers == "emulated" else {}  # else three times ten seconds
    results = [run(scenario, model="resnet50", servers=servers, **short) for scenario in SCENARIOS]
    comparison = compare(results, baseline="7g")
    print(comparison)
    if len(sys.argv) > 2:
        save_report(comparison, sys.argv[2])


if __name__ == "__main__":
    main()
