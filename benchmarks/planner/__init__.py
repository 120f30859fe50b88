"""Planner benchmarks."""
