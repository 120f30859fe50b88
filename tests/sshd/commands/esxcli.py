"""Stand-in for esxcli of a host: the list of VIBs. Runs in the host's shell."""

import json
import os
import sys
from pathlib import Path

FOLDER = Path(os.environ["HOST_FOLDER"])
TABLE = """AcceptanceLevel,CreationDate,ID,InstallDate,Name,Platforms,Status,Vendor,Version,
VMwareAccepted,2024-06-01,NVD_bootbank_NVD-AIE-800_550.90.05,2024-07-02,NVD-AIE_ESXi_8.0.0_Driver,host,,NVD,550.90.05-1OEM.800.1.0.20613240,
VMwareAccepted,2024-06-01,NVD_bootbank_nvdgpumgmtdaemon,2024-07-02,nvdgpumgmtdaemon,host,,NVD,550.90.05-1OEM.700.1.0.15843807,
VMwareCertified,2024-04-05,VMware_bootbank_esx-base_8.0.3,2024-07-02,esx-base,host,,VMware,8.0.3-0.35.24280767,
"""

with (FOLDER / "calls").open("a") as calls:
    calls.write(json.dumps(["esxcli", *sys.argv[1:]]) + "\n")
fault = json.loads((FOLDER / "state.json").read_text())["fail"].get("esxcli")
if fault is not None:
    sys.stdout.write(fault["output"])
    sys.stderr.write(fault["says"])
    sys.exit(fault["status"])
if sys.argv[1:] != ["--formatter=csv", "software", "vib", "list"]:
    print(f"Error: Unknown command or namespace {' '.join(sys.argv[1:])}")
    sys.exit(1)
sys.stdout.write(TABLE)
