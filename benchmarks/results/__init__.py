"""What was measured: immutable values, their files, and what a calibration takes from them.

Layers inside: points and words, then values, then form, then files. Must not know how it is measured or compared.
"""

from benchmarks.results.values import (
    InstanceRun,
    InstanceSummary,
    Latencies,
    Metadata,
    Repeat,
    Result,
)

__all__ = ["InstanceRun", "InstanceSummary", "Latencies", "Metadata", "Repeat", "Result"]
