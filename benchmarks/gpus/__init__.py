"""What the GPUs did during a run: how busy, at what power. Knows no servers and no load, and never disturbs a run."""

from benchmarks.gpus.choice import sampler_for
from benchmarks.gpus.values import GpuMetrics, Sampler

__all__ = ["GpuMetrics", "Sampler", "sampler_for"]
