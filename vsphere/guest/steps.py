"""The steps that set a guest up, as one script that can be run again. Text only."""

from __future__ import annotations

import shlex

from vsphere.guest.values import Guest, Triton

PATH = "/usr/local/sbin/gpu-partitioner-setup"
TRITON_UNIT = "triton.service"
CHECK_UNIT = "gpu-partitioner-check.service"

_HEAD = """\
#!/bin/bash
# Sets this machine up for its GPUs. Written by gpu-partitioner; can be run again.
set -euo pipefail
export DEBIAN_FRONTEND=noninteractive
"""

_TOOLKIT = """
# NVIDIA container toolkit, as its installation guide says
if ! command -v nvidia-ctk >/dev/null; then
    list=/etc/apt/sources.list.d/nvidia-container-toolkit.list
    key=/usr/share/keyrings/nvidia-container-toolkit-keyring.gpg
    curl -fsSL --retry 5 https://nvidia.github.io/libnvidia-container/gpgkey | gpg --batch --yes --dearmor -o "$key"
    echo "deb [signed-by=$key] https://nvidia.github.io/libnvidia-container/stable/deb/\\$(ARCH) /" >"$list"
    apt-get update
    apt-get install -y nvidia-container-toolkit
fi
nvidia-ctk runtime configure --runtime=docker
systemctl restart docker
"""


def setup_script(guest: Guest) -> str:
    """Return the script: driver, licence, container toolkit, units."""
    parts = [_HEAD]
    if guest.driver is not None:
        parts.append(_driver(guest))
    parts.append(
        "\n# The driver's licence daemon reads gridd.conf and the token when it starts\n"
        "if systemctl cat nvidia-gridd.service >/dev/null 2>&1; then\n"
        "    systemctl restart nvidia-gridd.service\n"
        "fi\n"
    )
    if guest.container_toolkit:
        parts.append(_TOOLKIT)
    units = [*([TRITON_UNIT] if guest.triton else []), *([CHECK_UNIT] if guest.check else [])]
    if guest.triton is not None:
        parts.append(f"\nmkdir -p {shlex.quote(guest.triton.models)}\n")
    if units:
        # --no-block: this script is part of the boot that the units wait for
        parts.append(f"\nsystemctl daemon-reload\nsystemctl enable {' '.join(units)}\n")
        parts.append(f"systemctl start --no-block {' '.join(units)}\n")
    return "".join(parts)


def _driver(guest: Guest) -> str:
    assert guest.driver is not None
    remote = guest.driver.startswith("https:")
    suffix = ".run" if guest.driver.partition("?")[0].endswith(".run") else ".deb"
    path = f"/var/cache/gpu-partitioner/driver{suffix}" if remote else guest.driver
    lines = ["\n# GRID driver", "if ! nvidia-smi >/dev/null 2>&1; then", f"    package={shlex.quote(path)}"]
    if remote:
        lines += [
            "    mkdir -p /var/cache/gpu-partitioner",
            f'    curl -fsSL --retry 5 -o "$package" {shlex.quote(guest.driver)}',
        ]
    if guest.driver_sha256 is not None:
        lines.append(f'    echo "{guest.driver_sha256}  $package" | sha256sum --check --quiet')
    if suffix == ".run":
        lines += ['    apt-get install -y "linux-headers-$(uname -r)"', '    sh "$package" --silent --no-questions --ui=none']
    else:
        lines.append('    apt-get install -y "$package"')
    return "\n".join([*lines, "fi", ""])


def triton_unit(triton: Triton) -> str:
    """Return the systemd unit of the inference server."""
    ports = f"--http-port={triton.http_port} --grpc-port={triton.grpc_port} --metrics-port={triton.metrics_port}"
    arguments = " ".join(["tritonserver", "--model-repository=/models", ports, *triton.arguments])
    return f"""\
[Unit]
Description=NVIDIA Triton Inference Server
After=docker.service network-online.target nvidia-gridd.service
Wants=network-online.target
Requires=docker.service

[Service]
Restart=on-failure
RestartSec=10
TimeoutStartSec=0
ExecStartPre=-/usr/bin/docker rm -f triton
ExecStart=/usr/bin/docker run --rm --name triton --gpus all --network host --ipc host \\
    -v {triton.models}:/models:ro {triton.image} \\
    {arguments}
ExecStop=/usr/bin/docker stop triton

[Install]
WantedBy=multi-user.target
"""


def check_unit(path: str) -> str:
    """Return the systemd unit that looks at the GPUs at every start and reports; it waits ten minutes for the driver."""
    return f"""\
[Unit]
Description=Check of the GPUs that the plan gave this machine
After=network-online.target nvidia-gridd.service open-vm-tools.service
Wants=network-online.target

[Service]
Type=oneshot
ExecStart={path} --wait 600
RemainAfterExit=yes

[Install]
WantedBy=multi-user.target
"""
