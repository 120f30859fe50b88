"""The options that name a vCenter, or the file that stands for one, and what is behind them. Must not know the commands.

Environment variables: PARTITIONER_VCENTER and PARTITIONER_VCENTER_USER, where no --vcenter and --user are given;
PARTITIONER_VCENTER_PASSWORD, where no place of the password is named; PARTITIONER_STATE, the folder in which the last apply is
remembered. There is no option for the password itself: whatever stands on a command line, every user of the machine can read.
"""

from __future__ import annotations

import inspect
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_type_hints

import typer

from partitioner.errors import SpecError

if TYPE_CHECKING:
    from partitioner.targets import StateFolder
    from vsphere.target import VSphereTarget
    from vsphere.values import Inventory

VCENTER, USER, PASSWORD = "PARTITIONER_VCENTER", "PARTITIONER_VCENTER_USER", "PARTITIONER_VCENTER_PASSWORD"
STATE = "PARTITIONER_STATE"


@dataclass(frozen=True, slots=True)
class Site:
    """A vCenter and an account on it, as the options say; it never holds a password."""

    vcenter: Annotated[
        str | None,
        typer.Option(metavar="HOST[:PORT]", show_default=False, help=f"The vCenter. Default: the variable {VCENTER}."),
    ] = None
    user: Annotated[
        str | None, typer.Option(metavar="NAME", show_default=False, help=f"The account. Default: the variable {USER}.")
    ] = None
    password_env: Annotated[
        str | None,
        typer.Option(metavar="VARIABLE", show_default=False, help=f"Variable that holds its password. Default: {PASSWORD}."),
    ] = None
    password_file: Annotated[Path | None, typer.Option(metavar="FILE", help="File that holds the password and nothing else.")] = (
        None
    )
    keyring: Annotated[
        str | None, typer.Option(metavar="SERVICE", help="Service of the system's keyring under which the password is kept.")
    ] = None
    ca_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Authorities (PEM) to trust instead of the system's.")] = (
        None
    )
    thumbprint: Annotated[
        str | None, typer.Option(metavar="SHA256", help="Trust the one certificate that has this SHA-256, and no other.")
    ] = None
    timeout: Annotated[float, typer.Option(metavar="S", help="Longest wait for an answer of vCenter [s].")] = 60.0

    def connect(self) -> VSphereTarget:
        """Log in, and return the target to be used as a context manager.

        Raises
        ------
        SpecError
            No vCenter or account is named, or there is no password.
        VSphereError
            There is no connection, or the account is not accepted.
        """
        from vsphere.target import connect

        host = self.vcenter or os.environ.get(VCENTER)
        if not host:
            raise SpecError(f"no vCenter given; give --vcenter HOST, or set {VCENTER}")
        user = self.user or os.environ.get(USER)
        if not user:
            raise SpecError(f"no account given for {host}; give --user NAME, or set {USER}")
        name, port = _address(host)
        return connect(
            name,
            user=user,
            **self._password(),
            port=port,
            ca_file=self.ca_file,
            thumbprint=self.thumbprint,
            timeout_s=self.timeout,
            state=_state(name if port == 443 else f"{name}_{port}"),
        )

    def _password(self) -> dict[str, Any]:
        """Return where the password stands, as an argument of `connect`; more than one place is for it to refuse.

        Raises
        ------
        SpecError
            It is to be in a variable that there is not.
        """
        places = {"password_env": self.password_env, "password_file": self.password_file, "keyring": self.keyring}
        given = {name: place for name, place in places.items() if place is not None}
        if (variable := self.password_env or PASSWORD) not in os.environ and given.keys() <= {"password_env"}:
            said = f"no password given: there is no variable {variable}"
            raise SpecError(f"{said}; set it, or give --password-env VARIABLE, --password-file FILE or --keyring SERVICE")
        return given or {"password_env": PASSWORD}


@dataclass(frozen=True, slots=True)
class Source(Site):
    """A vCenter, or a file that holds what one had."""

    inventory_file: Annotated[
        str | None,
        typer.Option(
            "--from", metavar="FILE", help="Ask no vCenter: take what `partitioner vsphere inventory --out FILE` wrote."
        ),
    ] = None

    def inventory(self) -> Inventory:
        """Return what there is, by the file or the vCenter.

        Raises
        ------
        SpecError
            Both or neither is named, or the file is not valid.
        VSphereError
            The vCenter does not answer.
        """
        if self.inventory_file is None:
            from vsphere.cli.terminal import spinner

            with self.connect() as target, spinner("reading the inventory"):
                return target.inventory()
        self.check_offline()
        from vsphere.inventory import load

        return load(self.inventory_file)

    def check_offline(self) -> None:
        """Complain where a file is named and a vCenter as well; a vCenter of the environment does not count.

        Raises
        ------
        SpecError
            Both are named.
        """
        if self.vcenter is not None and self.inventory_file is not None:
            raise SpecError(f"--vcenter {self.vcenter} and --from {self.inventory_file} are both given; give one of them")


def connected(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command, whose first argument `site` is a `Site` or a `Source`, the options that such a one has."""
    signature = inspect.signature(command, eval_str=True)
    first, *rest = signature.parameters.values()
    kind: type[Site] = first.annotation
    hints = get_type_hints(kind, include_extras=True)
    names = [field.name for field in fields(kind)]
    added = [
        inspect.Parameter(field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name])
        for field in fields(kind)
    ]

    @wraps(command)
    def run(**values: Any) -> None:
        site = kind(**{name: values.pop(name) for name in names})
        try:
            command(site, **values)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "pyVmomi":
                raise
            raise SpecError(
                "this needs pyvmomi, which is not installed; install it: pip install 'gpu-partitioner[vsphere]'"
            ) from error

    ordered = sorted([*rest, *added], key=lambda parameter: parameter.kind)
    run.__signature__ = signature.replace(parameters=ordered)  # type: ignore[attr-defined]
    return run


def _state(host: str) -> StateFolder | None:
    """Return the folder of a vCenter in the one that the environment names; None leaves it to the target."""
    folder = os.environ.get(STATE)
    if not folder:
        return None
    from partitioner.targets import StateFolder

    return StateFolder(Path(folder) / "vsphere" / re.sub(r"[^A-Za-z0-9.-]", "_", host))


def _address(text: str) -> tuple[str, int]:
    """Return host and port of ``host``, ``host:port``, ``[v6]:port`` or an IPv6 address."""
    host, colon, port = text.rpartition(":")
    if not colon or (":" in host and not host.endswith("]")):
        return text, 443
    if not port.isdigit() or not 0 < int(port) < 65536:
        raise SpecError(f"--vcenter {text!r}: port {port!r} is not a number from 1 to 65535; write HOST or HOST:PORT")
    return host, int(port)
