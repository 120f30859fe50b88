"""What an inventory means to a planner: a fleet with its free space, and a layout with our VMs as occupants.

vCenter says which VMs use a GPU, not where on it: placements are inferred (`occupancy.placements`). Values of `vsphere.values`
come in, values of `partitioner` go out; this package must not know pyVmomi.
"""

from vsphere.occupancy.fleets import fleet, layout, unusable

__all__ = ["fleet", "layout", "unusable"]
