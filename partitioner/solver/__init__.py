"""Finding plans and checking them. `verify` shares no code with the rest of this package."""

from partitioner.solver.verification import verify

__all__ = ["verify"]
