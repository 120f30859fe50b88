"""The look that a guest takes at its GPUs when it starts, and how its report is read. Must not know vCenter."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass

from partitioner.catalog.naming import fold
from vsphere.machine.vm import Vm

KEY = "guestinfo.gpu-partitioner.check"
"""Where the guest reports; vCenter shows it in the machine's extra configuration."""

PATH = "/usr/local/sbin/gpu-partitioner-check"

_SCRIPT = """\
#!/bin/bash
# Looks whether the GPUs of this machine are those that its plan gave it, and reports to vCenter (guestinfo).
# Written by gpu-partitioner; an argument of "--wait N" tries for N seconds.
set -u
expected=({expected})
key={key}

report() {{
    local text=${{1//[^[:print:]]/ }}
    text=${{text:0:500}}
    echo "$text"
    if command -v vmware-rpctool >/dev/null; then
        vmware-rpctool "info-set $key $text"
    elif command -v vmtoolsd >/dev/null; then
        vmtoolsd --cmd "info-set $key $text"
    else
        echo "neither vmware-rpctool nor vmtoolsd is installed; the report stays here" >&2
    fi
}}

# Brand and case differ between drivers: GRID A100D-3-40C, NVIDIA A100D-3-40C MIG 3g.40gb
folded() {{
    local name=${{1,,}}
    name=${{name#grid }}; name=${{name#nvidia }}; name=${{name%% mig *}}
    echo "${{name// /_}}"
}}

look() {{
    local found names=() wanted name place
    found=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>&1) || {{ problem="nvidia-smi: $found"; return 1; }}
    while IFS= read -r name; do
        [ -n "$name" ] && names+=("$(folded "$name")")
    done <<<"$found"
    seen="${{names[*]-}}"
    for wanted in "${{expected[@]}}"; do
        for place in "${{!names[@]}}"; do
            if [ "${{names[$place]}}" = "$wanted" ] || [ "$wanted" = any ]; then
                unset "names[$place]"
                continue 2
            fi
        done
        problem="expected $wanted, found ${{seen:-no GPU}}"
        return 1
    done
    if [ "${{#names[@]}}" -gt 0 ]; then
        problem="expected ${{expected[*]}}, found $seen"
        return 1
    fi
}}

wait_s=0
[ "${{1-}}" = --wait ] && wait_s=${{2:-0}}
end=$((SECONDS + wait_s))
until look; do
    if [ "$SECONDS" -ge "$end" ]; then
        report "failed $problem"
        exit 1
    fi
    sleep 5
done
report "ok $seen"
"""


@dataclass(frozen=True, slots=True)
class GuestReport:
    """What a guest said of its GPUs.

    Parameters
    ----------
    ok : whether they are those of the plan.
    text : the GPUs it sees, or what is wrong.
    """

    ok: bool
    text: str


def check_script(vm: Vm) -> str:
    """Return the script that looks whether a machine has its GPUs: each vGPU by name, whole GPUs by number."""
    expected = [guest_name(device.vgpu) if device.vgpu is not None else "any" for device in vm.devices]
    expected.sort(key=lambda name: name == "any")  # "any" takes what the others left
    return _SCRIPT.format(expected=" ".join(shlex.quote(name) for name in expected), key=KEY)


def guest_name(vgpu: str) -> str:
    """Return how a guest's driver names a vGPU type, without brand, in lower case.

    Examples
    --------
    >>> guest_name("grid_a100d-3-40c"), guest_name("nvidia_rtx_pro_6000_blackwell_dc-1-24q")
    ('a100d-3-40c', 'rtx_pro_6000_blackwell_dc-1-24q')
    """
    return fold(vgpu)


def read_report(options: Mapping[str, str]) -> GuestReport | None:
    """Return what a guest reported, from its machine's extra configuration; None where it has not (yet).

    The text comes from inside the guest: it is printable, short, and to be believed as much as the guest is.

    Examples
    --------
    >>> read_report({"guestinfo.gpu-partitioner.check": "ok a100d-3-40c"})
    GuestReport(ok=True, text='a100d-3-40c')
    """
    said = options.get(KEY, "").strip()
    if not said:
        return None
    word, _, text = re.sub(r"[^\x20-\x7e]", "?", said[:500]).partition(" ")
    return GuestReport(word == "ok", text if word in ("ok", "failed") else f"{word} {text}".strip())
