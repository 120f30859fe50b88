"""Benchmarks of GPU partitions: scenarios run on every piece of a GPU, their results, and comparisons.

So far it holds `benchmarks.planner`, the speed and quality of the planner itself; the rest needs hardware and follows.
This package must not know vSphere.
"""
