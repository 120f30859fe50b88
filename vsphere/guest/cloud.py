"""cloud-init's three files of one machine: user-data, meta-data and network configuration, as plain data.

The data may hold the client token: whoever prints it prints the secret. `GuestInfo` is what is handed on.
"""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

import yaml

from partitioner.errors import Problem, SpecError
from vsphere.guest.check import PATH as CHECK_PATH
from vsphere.guest.check import check_script
from vsphere.guest.steps import CHECK_UNIT, PATH, TRITON_UNIT, check_unit, setup_script, triton_unit
from vsphere.guest.values import Guest
from vsphere.machine.vm import Vm

TOKEN_PATH = "/etc/nvidia/ClientConfigToken/client_configuration_token.tok"  # noqa: S105 - where it goes, not what it is
_MAX_TOKEN = 65_536
_MAX_LABEL = 63  # RFC 1035


class _Literal(yaml.SafeDumper):
    """Writes texts of several lines as such, so that scripts can be read."""


def _literal(dumper: yaml.SafeDumper, text: str) -> yaml.Node:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Literal.add_representer(str, _literal)


def user_data(guest: Guest, vm: Vm) -> str:
    """Return the user-data of one machine (``#cloud-config``), the client token in it.

    Raises
    ------
    SpecError
        The token's file cannot be read, or is empty or no text; the message holds its name, never its content.
    """
    name = hostname(vm)
    data: dict[str, Any] = {
        "hostname": name,
        "preserve_hostname": False,
        "manage_etc_hosts": True,
        "package_update": True,
        "packages": ["open-vm-tools", "gnupg", *guest.packages],
        "write_files": _files(guest, vm),
        "runcmd": [[PATH]],
    }
    if guest.ssh_keys:
        data["ssh_authorized_keys"] = list(guest.ssh_keys)
    return "#cloud-config\n" + yaml.dump(data, Dumper=_Literal, sort_keys=False, allow_unicode=True, width=4096)


def meta_data(guest: Guest, vm: Vm) -> dict[str, Any]:
    """Return the meta-data of one machine: its identity, its network, and what cloud-init takes away once it has read it.

    ``redact`` makes cloud-init empty the user-data in vCenter at the first start, so that the token does not stay there.
    """
    network = yaml.safe_dump(network_config(guest, vm), sort_keys=False)
    return {
        "instance-id": vm.instance_uuid,
        "local-hostname": hostname(vm),
        "network": base64.b64encode(network.encode()).decode(),
        "network.encoding": "base64",
        "redact": ["userdata"],
        "wait-on-network": {"ipv4": True},
    }


def network_config(guest: Guest, vm: Vm) -> dict[str, Any]:
    """Return the network configuration, version 2: the first virtual adapter by DHCP, or with the address given for it."""
    adapter: dict[str, Any] = {"match": {"driver": "vmxnet3"}, "dhcp4": True}
    given = guest.network.get(vm.name)
    if given is not None and given.address is not None:
        adapter = {"match": {"driver": "vmxnet3"}, "dhcp4": False, "addresses": [given.address]}
        if given.gateway is not None:
            adapter["routes"] = [{"to": "0.0.0.0/0" if ":" not in given.gateway else "::/0", "via": given.gateway}]
    if given is not None and given.nameservers:
        adapter["nameservers"] = {"addresses": list(given.nameservers)}
    has_one = vm.template is not None or any(nic.virtual for nic in vm.nics)
    return {"version": 2, "ethernets": {"primary": adapter} if has_one else {}}


def hostname(vm: Vm) -> str:
    """Return a machine's name as that of a host: letters, digits, dashes, at most 63; a long one ends in a part of its UUID."""
    name = re.sub(r"[^a-z0-9]+", "-", vm.name.casefold()).strip("-") or "gpu"
    return name if len(name) <= _MAX_LABEL else f"{name[: _MAX_LABEL - 9].strip('-')}-{vm.instance_uuid[:8]}"


def _files(guest: Guest, vm: Vm) -> list[dict[str, Any]]:
    files = [
        _file("/etc/nvidia/gridd.conf", f"# Written by gpu-partitioner\nFeatureType={guest.feature_type}\n", "0644"),
        _file(PATH, setup_script(guest), "0755"),
    ]
    if guest.token_file is not None:
        token = base64.b64encode(_token(guest.token_file)).decode()
        files.append({"path": TOKEN_PATH, "permissions": "0744", "owner": "root:root", "encoding": "b64", "content": token})
    if guest.check:
        files.append(_file(CHECK_PATH, check_script(vm), "0755"))
        files.append(_file(f"/etc/systemd/system/{CHECK_UNIT}", check_unit(CHECK_PATH), "0644"))
    if guest.triton is not None:
        files.append(_file(f"/etc/systemd/system/{TRITON_UNIT}", triton_unit(guest.triton), "0644"))
    return files


def _file(path: str, content: str, permissions: str) -> dict[str, Any]:
    return {"path": path, "permissions": permissions, "owner": "root:root", "content": content}


def _token(path: str) -> bytes:
    try:
        with Path(path).open("rb") as file:
            token = file.read(_MAX_TOKEN + 1)
    except OSError as error:
        raise SpecError(Problem(f"client token cannot be read: {error.strerror}", path)) from None
    if not token.strip() or len(token) > _MAX_TOKEN:
        raise SpecError(Problem("client token is empty or over 64 KiB; give the .tok file of your licence server", path))
    return token
