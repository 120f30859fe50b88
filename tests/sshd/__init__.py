"""ESXi shells for tests: real sshd processes with keys of their own, and stand-ins for the commands of a host.

Real are OpenSSH's server and client, the protocol, the keys, and a POSIX shell that parses the command. Stand-ins are
``nvidia-smi``, ``esxcli`` and ``nv-hostengine`` (``commands/``), which write as the real ones do and keep their state in a
file. Where a control address of the extended vCenter is given, ``nvidia-smi`` switches MIG there, so that both agree.
"""

from sshd.server import EsxiShell, SmiCard, sshd_program

__all__ = ["EsxiShell", "SmiCard", "sshd_program"]
