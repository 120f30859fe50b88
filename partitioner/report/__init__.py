"""Plans in words: the text that is printed, and the rows that tables elsewhere show. Must not know solvers."""

from partitioner.report.gpus import rows
from partitioner.report.hosts import host_figures
from partitioner.report.section import Section, counted
from partitioner.report.sections import sections
from partitioner.report.text import figures, text

__all__ = ["Section", "counted", "figures", "host_figures", "rows", "sections", "text"]
