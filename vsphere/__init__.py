"""vSphere as a target of plans. Nothing is here yet: inventory, VM layouts and their application are to come.

vGPU type names as ESXi spells them are in `partitioner.catalog` already.
"""
