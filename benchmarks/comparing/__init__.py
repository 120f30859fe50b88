"""Comparison of results that were measured alike; refuses others.

Layers inside: statistics, then relations and likeness, then tables, then comparison. Must not know servers, loads or files.
"""

from benchmarks.comparing.comparison import Comparison, Row, compare
from benchmarks.comparing.relations import Fairness, Isolation, Scaling
from benchmarks.comparing.statistics import Change

__all__ = ["Change", "Comparison", "Fairness", "Isolation", "Row", "Scaling", "compare"]
