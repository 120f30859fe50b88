"""Stand-in for nvidia-smi of a host: --query-gpu and -mig, in the words of the real one. Runs in the host's shell."""

import fcntl
import json
import os
import sys
import time
from pathlib import Path

FOLDER = Path(os.environ.get("HOST_FOLDER", ""))
LACKS = {None: "[N/A]", True: "Enabled", False: "Disabled"}


def bus_id(card):
    """Return the PCI address as nvidia-smi writes it."""
    return ("0000" + card["pci_id"]).upper()


def query(state, names):
    """Write the table of --query-gpu."""
    cards = [card for card in state["cards"] if not card["hidden"]]
    if not cards:
        print("No devices were found")
        return 6
    print(", ".join(names))
    for index, card in enumerate(cards):
        values = {
            "index": str(index),
            "pci.bus_id": bus_id(card),
            "name": card["name"],
            "driver_version": state["driver"],
            "mig.mode.current": LACKS[card["mig"]],
            "mig.mode.pending": LACKS[card["pending"]],
        }
        if any(name not in values for name in names):
            print(f'Field "{names[-1]}" is not a valid field to query.', file=sys.stderr)
            return 2
        print(", ".join(values[name] for name in names))
    return 0


def find(state, which):
    """Return the GPU that -i names: an index among those seen, or a PCI address."""
    cards = [card for card in state["cards"] if not card["hidden"]]
    if which.isdecimal():
        return cards[int(which)] if int(which) < len(cards) else None
    return next((card for card in cards if which.upper() in (bus_id(card), card["pci_id"].upper())), None)


def switch(state, which, on):
    """Switch MIG mode."""
    card = find(state, which)
    if card is None:
        print(f"No devices were found for {which}")
        return 6
    if card["mig"] is None:
        print(f"Unable to enable MIG Mode for GPU {bus_id(card)}: Not Supported\nTreating as warning and moving on.\nAll done.")
        return 3
    word = "Enabled" if on else "Disabled"
    pending = card["restarts"] or card["in_use"]
    if state["control_url"]:
        pending = vcenter(state, card, on).startswith("pending")
    if not card["stuck"]:
        card["pending"] = on
        if not pending:
            card["mig"] = on
        (FOLDER / "state.json").write_text(json.dumps(state))
    if pending:
        why = "In use by another client" if card["in_use"] else "Not Supported"
        print(f"Warning: MIG mode is in pending {'enable' if on else 'disable'} state for GPU {bus_id(card)}:{why}")
        print(f"Reboot the system or try nvidia-smi --gpu-reset to make MIG mode effective on GPU {bus_id(card)}")
    else:
        print(f"{word} MIG Mode for GPU {bus_id(card)}")
    print("All done.")
    return 0


def agree(state):
    """Take the modes from the vCenter of the tests, where there is one: it knows when the host was restarted."""
    if not state["control_url"]:
        return
    import urllib.request  # slow to import, and rarely needed

    with urllib.request.urlopen(f"{state['control_url']}/gpus?host={state['host']}") as response:  # noqa: S310
        seen = {card["pci_id"]: card["mode"] for card in json.load(response)}
    for card in state["cards"]:
        mode = seen[card["pci_id"]]
        card["hidden"] = mode == "passthrough"
        if card["mig"] is None or mode == "shared":
            continue
        if card["pending"] == card["mig"] or card["pending"] == (mode == "mig"):
            card["pending"] = mode == "mig"
        card["mig"] = mode == "mig"


def vcenter(state, card, on):
    """Tell the vCenter of the tests, and return what became of it there."""
    index = state["cards"].index(card)
    import urllib.request

    body = json.dumps({"host": state["host"], "gpu": index, "on": on}).encode()
    with urllib.request.urlopen(state["control_url"] + "/set_mig", body) as response:  # noqa: S310
        answer = json.load(response)
    return answer if isinstance(answer, str) else str(answer.get("result", answer))


def main(arguments):
    """Run it."""
    with (FOLDER / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with (FOLDER / "calls").open("a") as calls:
            calls.write(json.dumps(["nvidia-smi", *arguments]) + "\n")
        state = json.loads((FOLDER / "state.json").read_text())
        agree(state)
        fault = state["fail"].get("nvidia-smi")
        if fault is None:
            if arguments and arguments[0].startswith("--query-gpu=") and arguments[1:] == ["--format=csv"]:
                return query(state, arguments[0].partition("=")[2].split(","))
            if len(arguments) == 4 and (arguments[0], arguments[2]) == ("-i", "-mig"):
                return switch(state, arguments[1], arguments[3] == "1")
            print(f"Invalid combination of input arguments: {arguments}")
            return 2
    time.sleep(fault["sleep_s"])
    sys.stdout.write(fault["output"])
    sys.stderr.write(fault["says"])
    return fault["status"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
