"""ansible-core with the collection community.vmware, from PyPI, in a folder of its own; installed once.

The collection is in no package of its own there: it is taken out of the wheel of `ansible`, without the rest of that.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import zipfile
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parents[1] / "build" / "ansible"
CORE = "ansible-core>=2.18,<2.20"
BUNDLE = "ansible>=12,<13"  # has community.vmware 5.10
NEEDS = ("pyvmomi>=8.0.3", "requests>=2.31", "aiohttp>=3.9")
COLLECTIONS = ("ansible_collections/community/vmware/", "ansible_collections/vmware/vmware/")


@cache
def install() -> Path:
    """Return the folder with ``bin/ansible-playbook`` and ``collections``; of processes that come together one installs.

    Raises
    ------
    RuntimeError
        pip cannot install it; holds what it said.
    """
    if not (FOLDER / "ready").exists():
        FOLDER.mkdir(parents=True, exist_ok=True)
        with (FOLDER / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (FOLDER / "ready").exists():
                _install()
                (FOLDER / "ready").touch()
    return FOLDER


def _install() -> None:
    _run([sys.executable, "-m", "venv", str(FOLDER)])
    pip = [str(FOLDER / "bin" / "python"), "-m", "pip", "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", CORE, *NEEDS])
    _run([*pip, "download", "--quiet", "--no-deps", "--dest", str(FOLDER / "wheels"), BUNDLE])
    (wheel,) = (FOLDER / "wheels").glob("ansible-*.whl")
    with zipfile.ZipFile(wheel) as bundle:
        bundle.extractall(FOLDER / "collections", [name for name in bundle.namelist() if name.startswith(COLLECTIONS)])
    wheel.unlink()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")


def playbook(play: Path, *arguments: str, ca_file: str) -> subprocess.CompletedProcess[str]:
    """Run a play, or with ``--syntax-check`` only read it."""
    folder = install()
    environment = {
        **os.environ,
        "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections"),
        "ANSIBLE_HOME": str(play.parent / "ansible"),
        "ANSIBLE_NOCOLOR": "1",
        "ANSIBLE_DEPRECATION_WARNINGS": "0",
        "SSL_CERT_FILE": ca_file,
    }
    command = [str(folder / "bin" / "ansible-playbook"), "-i", "localhost,", *arguments, str(play)]
    command[3:3] = ["-e", f"ansible_python_interpreter={folder / 'bin' / 'python'}"]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
