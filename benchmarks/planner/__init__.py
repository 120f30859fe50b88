"""Speed and quality of the planner: ``python -m benchmarks.planner {speed,quality,closed-form,services,fleets}``.

Every figure that the README gives of the planner comes from here. The peers it is compared with are written anew and
share nothing with the planner but the catalogue's geometry. This package must not know targets, servers or networks.
"""
