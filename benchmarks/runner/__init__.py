"""Running scenarios: agents beside the instances, a common start, repeats, and what is kept of them.

Layers inside: agent, then hosts, then records, devices and casting, then measuring, then crew, then searching and journal,
then studies, then running. `ray_agents` and `ray_hosts` are agents on the nodes of Ray, the latter the only door to it.
"""

from benchmarks.runner.hosts import Hosts, LocalHosts
from benchmarks.runner.running import find_max_rate, run
from benchmarks.runner.searching import MaxRate, Trial
from benchmarks.runner.studies import Progress, find_rates, resume, run_study

__all__ = ["Hosts", "LocalHosts", "MaxRate", "Progress", "Trial", "find_max_rate", "find_rates", "resume", "run", "run_study"]
