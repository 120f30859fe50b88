"""Throughput and latency of models on profiles: measured points, the laws between them, and rates under latency bounds.

`Calibration` answers; every answer has an error and its sources. Layers inside: points, then table, busy, law and
queueing, then batches and published, then rating, calibration, then validation. Must not know workloads, fleets or plans.
"""

from partitioner.performance.calibration import Calibration
from partitioner.performance.points import CalibrationError, Estimate, Point, Rating
from partitioner.performance.validation import Fold, cross_validate

__all__ = ["Calibration", "CalibrationError", "Estimate", "Fold", "Point", "Rating", "cross_validate"]
