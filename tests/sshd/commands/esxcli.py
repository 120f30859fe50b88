"""Stand-in for esxcli of a host: the list of VIBs. Runs in the host's shell."""

import json
import os
import sys
from pathlib import Path

TABLE = """AcceptanceLevel,CreationDate,ID,InstallDate,Name,Platforms,Status,Vendor,Version,
VMwareAccepted,2024-06-01,NVD_bootbank_NVD-AIE-800_550.90.05,2024-07-02,NVD-AIE_ESXi_8.0.0_Driver,host,,NVD,550.90.05-1OEM.800.1.0.20613240,
VMwareAccepted,2024-06-01,NVD_bootbank_nvdgpumgmtdaemon,2024-07-02,nvdgpumgmtdaemon,host,,NVD,550.90.05-1OEM.700.1.0.15843807,
VMwareCertified,2024-04-05,VMware_bootbank_esx-base_8.0.3,2024-07-02,esx-base,host,,VMware,8.0.3-0.35.24280767,
"""


def main(arguments):
    """Run it."""
    folder = Path(os.environ["HOST_FOLDER"])
    with (folder / "calls").open("a") as calls:
        calls.write(json.dumps(["esxcli", *arguments]) + "\n")
    fault = json.loads((folder / "state.json").read_text())["fail"].get("esxcli")
    if fault is not None:
        sys.stdout.write(fault["output"])
        sys.stderr.write(fault["says"])
        return fault["status"]
    if arguments != ["--formatter=csv", "software", "vib", "list"]:
        print(f"Error: Unknown command or namespace {' '.join(arguments)}")
        return 1
    sys.stdout.write(TABLE)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
