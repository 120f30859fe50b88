"""The session on a vCenter: TLS, account, versions, privileges, drops, and a password that is found nowhere."""

from __future__ import annotations

import gc
import logging
import os
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from pyVmomi import vim
from vcenter import Host, VCenter, Vcsim, Vm

from partitioner.errors import SpecError
from vsphere import tls
from vsphere.credentials import Credentials
from vsphere.errors import CertificateError, ConnectError, LoginError, PrivilegeError, VersionError, VSphereError, translated
from vsphere.negotiation import needs_of
from vsphere.session import Session

PASSWORD = "P4ss&<word>"  # noqa: S105 - as the servers of the tests have it


@pytest.fixture(scope="module")
def center() -> Iterator[VCenter]:
    with VCenter(hosts=[Host("esx-01", gpus=["T4"])], vms=[Vm("theirs", host="esx-01")]) as running:
        yield running


@pytest.fixture(autouse=True)
def _password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VC_PASSWORD", PASSWORD)


def account(server: Vcsim | VCenter) -> Credentials:
    return Credentials.of(server.user, password_env="VC_PASSWORD")  # noqa: S106 - the name of a variable


def opened(server: Vcsim | VCenter, **kwargs: object) -> Session:
    given = {"ca_file": server.ca_file} if not kwargs.keys() & {"ca_file", "thumbprint"} else {}
    return Session.open(server.host, account(server), port=server.port, **{**given, **kwargs})  # type: ignore[arg-type]


# -- TLS -----------------------------------------------------------------------------------------------------------------


def test_authority(center: VCenter) -> None:
    with opened(center) as session:
        assert session.content.about.apiType == "VirtualCenter"
        assert session.api_version == "8.0.3.0"
        assert repr(session) == f"<Session on 127.0.0.1:{center.port} as {center.user}, API 8.0.3.0>"


def test_untrusted_certificate_says_thumbprint_and_what_to_do(center: VCenter) -> None:
    with pytest.raises(CertificateError, match="is not trusted") as caught:
        opened(center, ca_file=None)
    assert caught.value.thumbprint is not None
    assert tls.read_thumbprint(caught.value.thumbprint) == tls.read_thumbprint(center.thumbprint)
    assert caught.value.thumbprint in str(caught.value)
    assert "ca_file" in str(caught.value)
    with opened(center, thumbprint=caught.value.thumbprint) as session:
        assert session.content.rootFolder.name


@pytest.mark.parametrize("spelled", [str.upper, str.lower, lambda text: ":".join(text[i : i + 2] for i in range(0, 64, 2))])
def test_thumbprint_alone(center: VCenter, spelled: object) -> None:
    with opened(center, thumbprint=spelled(tls.read_thumbprint(center.thumbprint))) as session:  # type: ignore[operator]
        assert session.logins == 1


def test_wrong_thumbprint_sends_nothing(center: VCenter) -> None:
    center.clear_calls()
    for extra in ({}, {"ca_file": center.ca_file}):
        with pytest.raises(CertificateError, match="another thumbprint"):
            opened(center, thumbprint="ab" * 32, **extra)
    assert not center.calls()


def test_thumbprint_with_authority_needs_both(center: VCenter, tmp_path: Path) -> None:
    with opened(center, thumbprint=center.thumbprint, ca_file=center.ca_file) as session:
        assert session.logins == 1
    with Vcsim() as other, pytest.raises(CertificateError):
        opened(center, thumbprint=center.thumbprint, ca_file=other.ca_file)


def test_pinned_on_every_connection(center: VCenter) -> None:
    """The pin holds for connections that are opened later, not for the first alone."""
    with opened(center, thumbprint=center.thumbprint, patience_s=0) as session:
        session.stub.DropConnections()
        session.stub.schemeArgs["context"].thumbprint = "cd" * 32
        with pytest.raises(CertificateError, match="another thumbprint"):
            session.content.rootFolder.name  # noqa: B018
        session.stub.schemeArgs["context"].thumbprint = tls.read_thumbprint(center.thumbprint)


@pytest.mark.parametrize(("certificate", "said"), [("expired", "expired"), ("wrong-name", "(?i)mismatch")])
def test_bad_certificates(certificate: str, said: str) -> None:
    with Vcsim(certificate=certificate) as server:  # type: ignore[arg-type]
        with pytest.raises(CertificateError, match=said):
            opened(server)
        with opened(server, thumbprint=server.thumbprint) as session:  # the administrator looked at it and accepts it
            assert session.logins == 1


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"ca_file": "/no/such.pem"}, "no such file"),
        ({"ca_file": __file__}, "not a file of PEM certificates"),
        ({"thumbprint": "abc"}, "64 digits"),
        ({"thumbprint": "zz" * 32}, "64 digits"),
        ({"timeout_s": 0}, "timeout_s is 0"),
    ],
)
def test_parameters_that_cannot_be_used(given: dict[str, object], said: str) -> None:
    with pytest.raises(SpecError, match=said):
        Session.open("vc.example.com", Credentials("u", "environment", "VC_PASSWORD"), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("host", ["", "https://vc.lab", "vc.lab/sdk", "vc lab", "vc.lab:443", "-x"])
def test_names_of_hosts(host: str) -> None:
    with pytest.raises(SpecError, match="not a name or an address"):
        Session.open(host, Credentials("u", "environment", "VC_PASSWORD"))


# -- not reached ---------------------------------------------------------------------------------------------------------


def test_nobody_listens() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(ConnectError, match=f"127.0.0.1:{port}: cannot be reached: Connection refused"):
        Session.open("127.0.0.1", Credentials("u", "environment", "VC_PASSWORD"), port=port)


def test_server_that_does_not_answer() -> None:
    """A port that accepts and stays silent does not hold anybody up: TLS, and what comes after it, have a limit."""
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(ConnectError, match=r"no answer within 0\.2 s"):
        Session.open("127.0.0.1", Credentials("u", "environment", "VC_PASSWORD"), port=silent.getsockname()[1], timeout_s=0.2)


def test_something_else_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as plain:

        def talk() -> None:
            peer, _ = plain.accept()
            with peer:
                peer.recv(100)
                peer.sendall(b"HTTP/1.0 400 no TLS here\r\n\r\n")

        thread = threading.Thread(target=talk)
        thread.start()
        with pytest.raises(ConnectError, match="cannot be reached"):
            Session.open("127.0.0.1", Credentials("u", "environment", "VC_PASSWORD"), port=plain.getsockname()[1])
        thread.join()


def test_slow_call(center: VCenter) -> None:
    with opened(center, timeout_s=0.5, patience_s=0) as session:
        center.delay_ms(800, method="CurrentTime")
        try:
            with pytest.raises(ConnectError, match=r"no answer within 0\.5 s"):
                vim.ServiceInstance("ServiceInstance", session.stub).CurrentTime()
        finally:
            center.delay_ms(0, method="CurrentTime")


# -- account -------------------------------------------------------------------------------------------------------------


def test_wrong_password(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VC_PASSWORD", "guess")
    with pytest.raises(LoginError, match=r"check the account \(.*environment VC_PASSWORD\)") as caught:
        opened(center)
    assert isinstance(caught.value.fault, vim.fault.InvalidLogin)


def test_password_file(center: VCenter, tmp_path: Path) -> None:
    path = tmp_path / "password"
    for text in (PASSWORD, PASSWORD + "\n", PASSWORD + "\r\n"):
        path.write_bytes(text.encode())
        where = Credentials.of(center.user, password_file=path)
        assert where.reveal() == PASSWORD
        with Session.open(center.host, where, port=center.port, ca_file=center.ca_file) as session:
            assert session.logins == 1


def test_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    where = Credentials.of("svc", keyring="vc.lab")
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(SpecError, match="keyring is not installed"):
        where.reveal()
    module = ModuleType("keyring")
    kept = {("vc.lab", "svc"): PASSWORD}
    module.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", module)
    assert where.reveal() == PASSWORD
    kept.clear()
    with pytest.raises(SpecError, match="has no password of 'svc'"):
        where.reveal()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is empty"),
        (b"\n", "is empty"),
        (b"caf\xe9-S3cret", "not UTF-8"),
        (b"S3cret\x01", "control characters"),
        (b"S3cret" * 1000, "longer than 4096"),
    ],
)
def test_passwords_that_cannot_be_sent(tmp_path: Path, content: bytes, said: str) -> None:
    path = tmp_path / "password"
    path.write_bytes(content)
    with pytest.raises(SpecError, match=said) as caught:
        Credentials.of("svc", password_file=path).reveal()
    assert "S3cret" not in everything(caught.value)


@pytest.mark.parametrize("given", [{}, {"password_env": "A", "keyring": "b"}])
def test_exactly_one_place_of_the_password(given: dict[str, str]) -> None:
    with pytest.raises(SpecError, match="give exactly one of"):
        Credentials.of("svc", **given)


# -- a password that is found nowhere ------------------------------------------------------------------------------------


def everything(error: BaseException) -> str:
    """All that a traceback can show: the chain, and the local variables of all frames but those of this file."""
    parts = traceback.format_exception(error)
    pending: list[BaseException] = [error]
    known: set[int] = set()
    while pending:
        one = pending.pop()
        if id(one) in known:
            continue
        known.add(id(one))
        parts += [repr(one), repr(one.args), repr(vars(one) if hasattr(one, "__dict__") else "")]
        pending += [origin for origin in (one.__cause__, one.__context__) if origin is not None]
        for frame, _ in traceback.walk_tb(one.__traceback__):
            if frame.f_code.co_filename != __file__:
                parts += [repr(value) for value in frame.f_locals.values()]
    return "\n".join(parts)


def test_password_in_no_error_or_log(
    center: VCenter, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    secret = "S3cret&<'\">" + os.urandom(6).hex()
    forms = [secret, secret[:6], secret[-12:]]
    monkeypatch.setenv("VC_PASSWORD", secret)
    del secret
    errors: list[BaseException] = []
    with pytest.raises(LoginError) as wrong:
        opened(center)
    errors.append(wrong.value)
    for method, kind in (("RetrieveServiceContent", VSphereError), ("Login", VSphereError)):
        for when in ("before", "after"):
            center.drop(method, when=when)
            with pytest.raises(kind) as dropped:
                opened(center)
            errors.append(dropped.value)
    center.fail("Login", fault="vim.fault.InvalidState", message="not now")
    with pytest.raises(LoginError, match="not now") as refused:
        opened(center)
    errors.append(refused.value)
    center.clear_faults()
    shown = "\n".join(everything(error) for error in errors)
    shown += caplog.text + "".join(capfd.readouterr()) + repr(account(center)) + str(account(center))
    for form in forms:
        assert form not in shown


def test_password_is_not_kept(center: VCenter) -> None:
    """After the login, nothing that the session holds leads to it."""
    with opened(center) as session:
        pending, seen = [session], set()
        while pending:
            one = pending.pop()
            if id(one) in seen or isinstance(one, type | ModuleType) or one is os.environ or one is globals():
                continue
            seen.add(id(one))
            assert not (isinstance(one, str | bytes) and PASSWORD in str(one)), "kept"
            if isinstance(one, dict | list | tuple | set) or type(one).__module__.startswith(
                ("vsphere", "pyVmomi", "http", "ssl")
            ):
                pending += gc.get_referents(one)
        assert len(seen) > 20


def test_password_of_a_program_that_fails(center: VCenter) -> None:
    """An uncaught error of a real program, with its environment, prints no password."""
    program = (
        "import sys, logging; logging.basicConfig(level=0)\n"
        "from vsphere.credentials import Credentials\nfrom vsphere.session import Session\n"
        f"Session.open('127.0.0.1', Credentials.of('nobody', password_env='VC_PASSWORD'), port={center.port},"
        f" ca_file={center.ca_file!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 1
    assert "LoginError" in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


# -- sessions that end ---------------------------------------------------------------------------------------------------


def test_expired_session_is_renewed_once(center: VCenter) -> None:
    with opened(center) as session:
        center.expire_sessions()
        assert session.content.rootFolder.name
        assert session.logins == 2
        center.expire_sessions()
        threads = [threading.Thread(target=lambda: session.content.rootFolder.name) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert session.logins == 3


def test_session_that_cannot_be_renewed(center: VCenter, monkeypatch: pytest.MonkeyPatch) -> None:
    with opened(center) as session:
        center.expire_sessions()
        monkeypatch.setenv("VC_PASSWORD", "changed meanwhile")
        with pytest.raises(LoginError) as caught:
            session.content.rootFolder.name  # noqa: B018
        assert isinstance(caught.value.fault, vim.fault.InvalidLogin)


def test_reads_go_on_after_a_drop_and_changes_do_not(center: VCenter) -> None:
    with opened(center) as session:
        center.drop("RetrievePropertiesEx", when="before")
        center.clear_calls()
        view = session.content.viewManager.CreateContainerView(session.content.rootFolder, [vim.Folder], True)
        assert view.view
        center.drop("CreateFolder", when="before")
        with pytest.raises(ConnectError, match=r"CreateFolder: the connection broke.*whether it was done is not known"):
            session.content.rootFolder.CreateFolder("once")
        center.clear_faults()
        assert [f.name for f in session.content.rootFolder.childEntity].count("once") == 0
        assert center.count("CreateFolder") == 1


def test_answer_of_an_unknown_type_is_an_error_of_ours(center: VCenter) -> None:
    with opened(center) as session:
        center.fail("Fetch", "vmodl.fault.ManagedObjectNotFound")  # without the object that it must name
        with pytest.raises(ConnectError, match="the answer has a type '' that pyVmomi does not know"):
            session.content.rootFolder.childEntity  # noqa: B018 - reads
        center.clear_faults()


def test_restart_of_vcenter() -> None:
    with VCenter(hosts=[Host("esx-01", gpus=["T4"])]) as server, opened(server) as session:
        server.restart(down_s=0.3)
        assert session.content.rootFolder.name
        assert session.logins == 2


def test_restart_that_takes_too_long() -> None:
    with VCenter(hosts=[Host("esx-01", gpus=["T4"])]) as server:
        session = opened(server, patience_s=0.1)
        server.stop()
        with pytest.raises(ConnectError, match="the connection broke"):
            session.content.rootFolder.name  # noqa: B018
        session.close()  # nobody is there any more: no error


def test_idle_connection_closed_by_the_server_costs_no_call(center: VCenter) -> None:
    """A change is not sent on a connection that the server closed meanwhile, where it would be lost."""
    with opened(center) as session:
        for connection, _ in session.stub.pool:
            connection.sock.shutdown(socket.SHUT_RDWR)
        folder = session.content.rootFolder.CreateFolder("after-idle")
        assert folder.name == "after-idle"


def test_session_ends_on_every_path(center: VCenter) -> None:
    center.clear_calls()
    with pytest.raises(ZeroDivisionError), opened(center):
        1 / 0  # noqa: B018
    session = opened(center)
    session.close()
    session.close()
    assert center.count("Login") == center.count("Logout") == 2


# -- versions and privileges ---------------------------------------------------------------------------------------------


def test_versions() -> None:
    with Vcsim(api_version="6.5") as server, opened(server) as session:
        assert session.api_version == "6.5"
        assert session.has(vim.vm.device.VirtualPCIPassthrough.VmiopBackingInfo)
        with pytest.raises(VersionError, match=r"vgpuMode.*8\.0\.3\.0.*drop it silently") as caught:
            session.check_version((vim.host.GraphicsInfo, "vgpuMode"), vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo)
        assert [since for _, since in caught.value.missing] == ["8.0.3.0", "7.0.0.0"]


def spec_with_numa() -> vim.vm.ConfigSpec:
    device = vim.vm.device.VirtualPCIPassthrough(
        key=-1, backing=vim.vm.device.VirtualPCIPassthrough.DynamicBackingInfo(deviceName=""), numaNode=0
    )
    return vim.vm.ConfigSpec(name="x", deviceChange=[vim.vm.device.VirtualDeviceSpec(operation="add", device=device)])


def test_a_request_that_is_newer_than_the_server_is_refused_whole() -> None:
    assert (vim.vm.device.VirtualPCIPassthrough, "numaNode") in set(needs_of(spec_with_numa()))
    with Vcsim(api_version="6.7") as server, opened(server) as session:
        with pytest.raises(VersionError, match=r"DynamicBackingInfo.*numaNode|numaNode.*DynamicBackingInfo"):
            session.check_spec(spec_with_numa())
        session.check_spec(vim.vm.ConfigSpec(name="x", numCPUs=2))
    with Vcsim() as server, opened(server) as session:
        session.check_spec(spec_with_numa())


def test_privileges(center: VCenter) -> None:
    with opened(center) as session:
        root, folder = session.content.rootFolder, session.content.rootFolder.childEntity[0]
        wanted = {root: ["System.View"], folder: ["VirtualMachine.Inventory.Create", "Host.Config.Settings"]}
        session.check_privileges(wanted)
        center.deny("Host.Config.Settings")
        try:
            with pytest.raises(PrivilegeError, match=r"lacks Host\.Config\.Settings on") as caught:
                session.check_privileges(wanted)
        finally:
            center.deny()
        assert caught.value.missing == ((folder._GetMoId(), "Host.Config.Settings"),)


def test_privileges_are_asked_for_the_session_that_is(center: VCenter) -> None:
    """The question names the session; one that ended while it was asked is not what counts."""
    with opened(center) as session:
        folder, asked = session.content.rootFolder, []
        manager = session.content.authorizationManager

        class Manager:
            def HasPrivilegeOnEntities(self, entities: object, key: str, names: object) -> object:  # noqa: N802
                asked.append(key)
                return manager.HasPrivilegeOnEntities(entities, key, names)

        session.content = SimpleNamespace(authorizationManager=Manager(), sessionManager=session.content.sessionManager)
        center.expire_sessions()
        session.check_privileges({folder: ["System.View"]})
        assert len(asked) == 2
        assert asked[0] != asked[1] == session._key


def test_fault_is_kept() -> None:
    fault = vim.fault.NotFound(msg="gone")
    with pytest.raises(VSphereError, match=r"vc: looking: gone \(NotFound\)") as caught, translated("vc", "looking"):
        raise fault
    assert caught.value.fault is fault
    assert caught.value.__cause__ is fault
