"""The guard: whatever happens to the owner, to the command or to the guard itself, nothing is left running."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.errors import ServerError
from benchmarks.servers.guarded import Guarded, ended

FAMILY = """
import os, signal, subprocess, sys, time
if "stubborn" in sys.argv:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
wait = "import time; time.sleep(600)"
mute = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); " + wait
children = [
    subprocess.Popen([sys.executable, "-S", "-c", mute]),
    subprocess.Popen([sys.executable, "-S", "-c", wait], start_new_session=True),
]
print("pids", os.getpid(), *(child.pid for child in children), flush=True)
if "exit" in sys.argv:
    os._exit(7)
if "crash" in sys.argv:
    os.kill(os.getpid(), signal.SIGSEGV)
time.sleep(600)
"""
"""A process with a child that is deaf to SIGTERM, and one in a session of its own."""


def until(condition, *, seconds=30.0):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.01)
    raise AssertionError("it did not come about")


def gone(pids):
    """Whether no process is left of these; one that nobody has reaped yet counts as gone."""

    def over(pid):
        try:
            return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] in "ZX"
        except OSError:
            return True

    return all(over(pid) for pid in pids)


def pids_in(log):
    """The process ids that the family has written, once all of it is there."""
    found = [line for line in log.read_text().splitlines() if line.startswith("pids ")] if log.exists() else []
    return [int(pid) for pid in found[0].split()[1:]] if found else []


def guarded(tmp_path, *words, command=None, **options):
    return Guarded(
        command or [sys.executable, "-S", "-c", FAMILY, *words],
        who="it",
        log=tmp_path / "log",
        environment=os.environ,
        **{"grace_s": 10.0, **options},
    )


def started(tmp_path, *words, **options):
    process = guarded(tmp_path, *words, **options)
    return process, until(lambda: pids_in(process.log))


def owner(tmp_path, code="time.sleep(600)"):
    """A process that owns a family, and the pids of guard and family."""
    program = (
        "import os, sys, time\nfrom pathlib import Path\nfrom benchmarks.servers.guarded import Guarded\n"
        "family, log = sys.argv[1:]\n"
        "process = Guarded([sys.executable, '-S', '-c', family], who='it', log=Path(log), environment=os.environ, grace_s=10.0)\n"
        f"print(process.pid, flush=True)\n{code}\n"
    )
    child = subprocess.Popen([sys.executable, "-c", program, FAMILY, str(tmp_path / "log")], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    guard = int(child.stdout.readline())
    return child, [guard, *until(lambda: pids_in(tmp_path / "log"))]


def test_stop_ends_the_whole_family(tmp_path):
    process, pids = started(tmp_path)
    assert process.status is None
    process.stop()
    assert gone([process.pid, *pids])
    assert process.status == -signal.SIGTERM


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace(tmp_path):
    process, pids = started(tmp_path, "stubborn", grace_s=0.2)
    process.stop()
    assert gone(pids)
    assert process.status == -signal.SIGKILL


def test_stop_again_and_after_the_end_is_fine(tmp_path):
    process, _ = started(tmp_path, "exit")
    until(lambda: process.status is not None)
    process.stop()
    process.stop()
    assert process.status == 7


@pytest.mark.parametrize(("word", "status"), [("exit", 7), ("crash", -signal.SIGSEGV)])
def test_the_guard_ends_as_its_command_did_and_takes_the_orphans_along(tmp_path, word, status):
    process, pids = started(tmp_path, word)
    until(lambda: process.status is not None)
    assert process.status == status
    assert gone(pids)
    process.stop()


def test_a_command_killed_from_outside_shows_as_killed(tmp_path):
    process, pids = started(tmp_path)
    os.kill(pids[0], signal.SIGKILL)
    until(lambda: process.status is not None)
    assert process.status == -signal.SIGKILL
    assert gone(pids)
    process.stop()


def test_nothing_outlives_an_owner_that_is_killed(tmp_path):
    child, pids = owner(tmp_path)
    assert not gone(pids[:1])
    child.kill()
    child.communicate()
    until(lambda: gone(pids))


def test_nothing_outlives_an_owner_whose_forked_child_still_holds_the_pipe(tmp_path):
    child, pids = owner(tmp_path, "if os.fork() == 0:\n    print(os.getpid(), flush=True)\ntime.sleep(600)")
    assert child.stdout is not None
    fork = int(child.stdout.readline())
    child.kill()
    child.wait()
    try:
        until(lambda: gone(pids))
        assert not gone([fork])
    finally:
        os.kill(fork, signal.SIGKILL)
        child.stdout.close()


def test_nothing_outlives_an_owner_that_gets_ctrl_c(tmp_path):
    child, pids = owner(tmp_path, "try:\n    time.sleep(600)\nexcept KeyboardInterrupt:\n    process.stop(); os._exit(3)")
    child.send_signal(signal.SIGINT)
    child.communicate()
    assert child.returncode == 3
    assert gone(pids)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_the_guard_ends_all(tmp_path, number):
    process, pids = started(tmp_path)
    os.kill(process.pid, number)
    until(lambda: process.status is not None)
    assert gone(pids)
    process.stop()


def test_the_kernel_kills_the_command_of_a_killed_guard(tmp_path):
    process, pids = started(tmp_path, "stubborn")
    try:
        os.kill(process.pid, signal.SIGKILL)
        until(lambda: gone(pids[:1]))
        assert process.status == -signal.SIGKILL
        process.stop()
    finally:
        for pid in pids[1:]:  # nobody is left to end these; of tritonserver, the stubs see to themselves
            os.kill(pid, signal.SIGKILL)


def test_cores_and_standard_input(tmp_path):
    core = max(os.sched_getaffinity(0))
    code = "import os, sys; print(sorted(os.sched_getaffinity(0)), repr(sys.stdin.read()), os.getsid(0) == os.getpid())"
    process = guarded(tmp_path, command=[sys.executable, "-c", code], cores=[core])
    until(lambda: process.status is not None)
    process.stop()
    assert process.log_text() == f"[{core}] '' True\n"


def test_a_command_that_is_not_there(tmp_path):
    process = guarded(tmp_path, command=["/nowhere/tritonserver"])
    until(lambda: process.status is not None)
    process.stop()
    assert process.status == 127
    assert process.log_tail() == ("guard: /nowhere/tritonserver cannot be run: No such file or directory",)


def test_shared_memory_with_the_prefix_goes_and_other_stays(tmp_path):
    ours, others = (Path("/dev/shm", f"gp-test-{os.getpid()}-{letter}-1") for letter in "ab")  # noqa: S108
    try:
        process = guarded(tmp_path, command=["sleep", "600"], shared=f"gp-test-{os.getpid()}-a-")
        ours.write_text("x")
        others.write_text("x")
        process.stop()
        assert not ours.exists()
        assert others.exists()
    finally:
        ours.unlink(missing_ok=True)
        others.unlink(missing_ok=True)


def test_a_full_disk_takes_the_log_not_the_command(tmp_path):
    (tmp_path / "log").symlink_to("/dev/full")
    process = guarded(tmp_path, command=[sys.executable, "-c", "import os; os.write(1, b'x')"])
    until(lambda: process.status is not None)
    process.stop()
    assert process.status == 1  # ENOSPC reached the command, and nobody else
    assert process.log_text() == ""
    assert process.log_tail() == ()


def test_a_log_that_cannot_be_made_is_an_error_with_the_path(tmp_path):
    with pytest.raises(ServerError, match=r"it - cannot be started: No such file or directory \(.*/missing/log\)"):
        Guarded(["true"], who="it", log=tmp_path / "missing/log", environment=os.environ)


def test_of_a_long_log_the_end_is_read(tmp_path):
    code = "for number in range(100_000): print('line', number)"
    process = guarded(tmp_path, command=[sys.executable, "-c", code])
    until(lambda: process.status is not None)
    process.stop()
    assert process.log_tail(2) == ("line 99998", "line 99999")


def test_words_for_the_end_of_a_process():
    assert ended(0) == "ended with exit status 0"
    assert ended(-9) == "was ended by SIGKILL"


def test_an_order_to_end_that_comes_at_once_is_not_lost(tmp_path):
    for turn in range(8):  # SIGTERM would be lost on a child that has the guard's handlers still
        process = guarded(tmp_path, command=["sleep", "600"], grace_s=60.0)
        time.sleep(0.01 * turn)
        process.stop()
        assert process.status == -signal.SIGTERM
