"""Online placement: requests come and go one at a time, and each is answered at once.

`Allocator` is the door. This package must not know plans, targets or how changes are carried out.
"""

from partitioner.solver.online.allocator import Allocator
from partitioner.solver.online.placed import Migration, Placement
from partitioner.solver.online.policies import POLICIES

__all__ = ["POLICIES", "Allocator", "Migration", "Placement"]
