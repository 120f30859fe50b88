"""The commands `partitioner vsphere ...`: from the hosts of a vCenter to virtual machines that carry a plan out.

Reads arguments, calls the package, prints, and asks; nothing is decided here. The command line of the planner attaches `app`
by its name. Only `terminal` knows that command line; pyVmomi is loaded when a command runs, so that help is instant.
"""

from __future__ import annotations

import typer

from vsphere.cli import changing, inventory, planning, preparing, rendering, status

_HELP = """Carry plans out on vSphere: GPUs of a vCenter's hosts, and virtual machines with a vGPU or a whole GPU.

\b
  export PARTITIONER_VCENTER=vc.example.com PARTITIONER_VCENTER_USER=svc-gpu@vsphere.local
  read -rs PARTITIONER_VCENTER_PASSWORD && export PARTITIONER_VCENTER_PASSWORD      or --password-file, or --keyring
  partitioner vsphere inventory --out inventory.yaml              what is there; all else works from the file too
  partitioner vsphere plan workloads.yaml --from inventory.yaml --out plan.json --vms vms.yaml
  partitioner vsphere diff vms.yaml                               which steps, and whom they interrupt
  partitioner vsphere apply vms.yaml                              carry them out; asks first
  partitioner vsphere status                                      which machine runs, and on which GPU
  partitioner vsphere destroy vms.yaml                            only what carries our mark

The certificate of vCenter is always verified: --ca-file names its authority (https://HOST/certs/download.zip has it), or
--thumbprint pins it. There is no option for the password itself: others could read it in the list of processes.
"""

app = typer.Typer(
    name="vsphere",
    help=_HELP,
    short_help="Carry plans out on vSphere, with virtual machines.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    pretty_exceptions_show_locals=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
app.command("inventory", help=inventory.INVENTORY_HELP, short_help="Read what a vCenter has; save it to a file.")(
    inventory.inventory
)
app.command("plan", help=planning.PLAN_HELP, short_help="Plan workloads onto its hosts; show the machines.")(planning.plan)
app.command("diff", help=changing.DIFF_HELP, short_help="Show the steps from what is there to the machines.")(changing.diff)
app.command("apply", help=changing.APPLY_HELP, short_help="Carry out machines, a plan or saved changes.")(changing.apply)
app.command("status", help=status.STATUS_HELP, short_help="Show the machines of ours and their GPUs.")(status.status)
app.command("destroy", help=changing.DESTROY_HELP, short_help="Destroy the machines of one plan.")(changing.destroy)
app.command("rollback", help=changing.ROLLBACK_HELP, short_help="Undo the last apply.")(changing.rollback)
app.command("prepare-hosts", help=preparing.PREPARE_HELP, short_help="Bring GPUs into the modes of a plan.")(
    preparing.prepare_hosts
)
app.command("render", help=rendering.RENDER_HELP, short_help="Write machines for govc, Ansible, PowerCLI, cloud-init.")(
    rendering.render
)
