"""MLPerf's own LoadGen as an engine: the same protocol, the real library, and its verdict and logs kept.

Importing this package loads no LoadGen; `benchmarks.loadgen.library` is the only door to it. It knows no servers.
"""

from benchmarks.loadgen.detail import LoadGenVerdict, read_verdict
from benchmarks.loadgen.engine import LoadGenEngine
from benchmarks.loadgen.expectation import expected_rate

__all__ = ["LoadGenEngine", "LoadGenVerdict", "expected_rate", "read_verdict"]
