"""Results for readers: plots and one HTML page. Measures nothing and computes no statistics."""

from benchmarks.reporting.html import report, save_report

__all__ = ["report", "save_report"]
