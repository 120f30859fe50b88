"""Which way of cutting an A100 serves most? A measurement as a program.

Its servers are emulated unless told otherwise: they answer as late as published tables say and infer nothing, so that it
runs anywhere in seconds. With `triton` it is in earnest: real inference, on a GPU that is cut so or on slices of the CPU.

    python examples/measure.py [emulated | triton]
    partitioner bench run examples/measure/study.yaml --out results     from a file, which explains every field
"""

import sys

from benchmarks import compare, run

SCENARIOS = ("7g", "4g+2g+1g", "7x1g")
HOW = {
    "emulated": {"repeats": 1, "duration_s": 0.5, "warmup_s": 0.2},
    "triton": {"repeats": 3, "duration_s": 10, "warmup_s": 2},
}


def main() -> None:
    """Measure ResNet-50 in each scenario, and print the scenarios side by side."""
    servers = sys.argv[1] if len(sys.argv) > 1 else "emulated"
    results = [run(scenario, model="resnet50", servers=servers, **HOW[servers]) for scenario in SCENARIOS]
    comparison = compare(results, baseline="7g")
    print(comparison)
    for row in comparison.rows:
        fastest = min(row.instances, key=lambda instance: instance.latency.p50)
        print(f"{row.name}: the fastest of {len(row.instances)} answers half of its batches within {fastest.latency.p50:.0f} ms")


if __name__ == "__main__":
    main()
