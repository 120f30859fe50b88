"""Why a plan is as it is, and what would change it: explanations, sensitivity, comparison.

Every what-if is a changed question to the solver, answered within one deadline; what was not finished is said, not guessed.
This package works on questions and answers of the solver; it must not know plans, files or the command line.
"""

from partitioner.advice.comparison import Comparison, Moved, Stage, compare
from partitioner.advice.explanation import Explanation, Saved, explain
from partitioner.advice.figures import Figures, figures_of
from partitioner.advice.limits import Limit
from partitioner.advice.remedies import Remedy
from partitioner.advice.sensitivity import Change, Sensitivity, sensitivity
from partitioner.advice.services import Choice

__all__ = [
    "Change",
    "Choice",
    "Comparison",
    "Explanation",
    "Figures",
    "Limit",
    "Moved",
    "Remedy",
    "Saved",
    "Sensitivity",
    "Stage",
    "compare",
    "explain",
    "figures_of",
    "sensitivity",
]
