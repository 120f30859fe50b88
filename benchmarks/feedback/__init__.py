"""What was expected against what was measured, and what was measured for the next plan (`Result.points`).

Layers inside: prediction, then deviation. Must not know servers, loads or how a comparison is shown.
"""

from benchmarks.feedback.deviation import Deviation, InstanceDeviation, deviations
from benchmarks.feedback.prediction import InstancePrediction, Prediction, predict

__all__ = ["Deviation", "InstanceDeviation", "InstancePrediction", "Prediction", "deviations", "predict"]
