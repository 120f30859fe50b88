"""A vCenter for tests: govmomi's simulator behind TLS, unmodified (`Vcsim`) or extended by what vCenter has (`VCenter`).

See README.md here.
"""

from vcenter.center import Call, Card, Used, VCenter
from vcenter.inventory import Gpu, Host, Nic, Vm
from vcenter.process import Vcsim
from vcenter.program import build

__all__ = ["Call", "Card", "Gpu", "Host", "Nic", "Used", "VCenter", "Vcsim", "Vm", "build"]
