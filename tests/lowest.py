"""Prints the lower bounds of pyproject.toml as pip constraints, for `make test-lowest`."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
wanted = [*project["dependencies"], *extras["notebook"], *extras["nvml"], *extras["vsphere"], *extras["bench"], *extras["ray"]]
for requirement in wanted:
    match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\[.*\])?>=([0-9.]+)", requirement)
    if not match:
        raise SystemExit(f"{requirement!r} is not name>=version")
    print(f"{match[1]}=={match[2]}.*")  # bounds name a series; its newest release has the wheels
