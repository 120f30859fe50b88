"""The shell script that restores a host's layout after a reboot, as text. Must not know plans or layouts."""

from __future__ import annotations

RESTORE = r"""#!/bin/sh
# Written by gpu-partitioner: restores the MIG layout of @HOST@.
#
# GPU instances do not survive a reboot. Run as root; needs nvidia-smi, sh, sed, tr and mktemp. It looks at all GPUs before it
# changes any; does nothing where the layout is as planned; creates only what is missing; never destroys. Where an instance
# stands that is not in the plan, or the GPU is another model, it changes nothing and fails. It verifies at the end. After
# an interruption, run it again.
#
#   sh SCRIPT          restore
#   sh SCRIPT check    only say whether the layout is as planned (status 1: it is not)
set -eu
LC_ALL=C
export LC_ALL

# The layout: function, GPU, MIG mode, PCI device ids of the model (- where not known), profile:start of each instance.
plan() {
@PLAN@
}

say() { printf '%s\n' "$*"; }

fail() {
    printf '%s\n' "gpu-partitioner: $*" >&2
    exit 1
}

# query GPU FIELD: what nvidia-smi says of a GPU
query() {
    nvidia-smi -i "$1" --query-gpu="$2" --format=csv,noheader ||
        fail "GPU $1: nvidia-smi cannot tell its $2; is the driver loaded?"
}

# listing GPU OPTION BANNER: a listing of nvidia-smi mig, empty where there is nothing to list
listing() {
    if text=$(nvidia-smi mig -i "$1" "$2" 2>&1); then
        case $text in
        *"$3"*) printf '%s\n' "$text" ;;
        *"instances found"* | *"No MIG-enabled devices"*) ;;
        *) fail "GPU $1: nvidia-smi mig $2 printed no table: $text" ;;
        esac
    else
        case $text in
        *"No GPU instances found"* | *"No compute instances found"* | *"No MIG-enabled devices found"*) ;;
        *) fail "GPU $1: nvidia-smi mig $2 failed: $text" ;;
        esac
    fi
}

# instances GPU: a line "id:start name:start instance" for each GPU instance
instances() {
    listing "$1" -lgi "GPU instances:" >"$work/gi"
    number="\([0-9][0-9]*\)"
    sed -n "s/^| *[0-9][0-9]* *MIG  *\([^ ]*\)  *$number  *$number  *$number:.*/\2:\4 \1:\4 \3/p" "$work/gi"
}

# computed GPU: a line for each compute instance, the id of its GPU instance
computed() {
    listing "$1" -lci "Compute instances:" >"$work/ci"
    sed -n 's/^| *[0-9][0-9]*  *\([0-9][0-9]*\)  *MIG .*/\1/p' "$work/ci"
}

# look GPU PLACEMENT...: sets missing, foreign and bare (GPU instances without a compute instance)
look() {
    gpu=$1
    shift
    missing="" foreign="" bare="" there=" "
    instances "$gpu" >"$work/now"
    computed "$gpu" >"$work/ready"
    ready=" $(tr '\n' ' ' <"$work/ready")"
    while read -r id name instance; do
        known=no
        for wanted in "$@"; do
            if [ "$wanted" = "$id" ] || [ "$wanted" = "$name" ]; then
                known=yes
                there="$there$wanted "
            fi
        done
        [ "$known" = yes ] || foreign="$foreign $name"
        case $ready in
        *" $instance "*) ;;
        *) bare="$bare $instance" ;;
        esac
    done <"$work/now"
    for wanted in "$@"; do
        case $there in
        *" $wanted "*) ;;
        *) missing="$missing,$wanted" ;;
        esac
    done
    missing=${missing#,}
}

# examine GPU MODE IDS PLACEMENT...: refuse what must not be touched, note what is to be done
examine() {
    gpu=$1 mode=$2 ids=$3
    shift 3
    actual=$(query "$gpu" pci.device_id)
    case $(printf '%s' " $ids " | tr 'a-f' 'A-F') in
    " - " | *" $(printf '%s' "$actual" | tr 'a-f' 'A-F') "*) ;;
    *) fail "GPU $gpu: its PCI device id is $actual, planned was one of $ids; plan for the GPU that is there" ;;
    esac
    current=$(query "$gpu" mig.mode.current)
    look "$gpu" "$@"
    if [ -n "$foreign" ]; then
        fail "GPU $gpu: instances that are not in the plan:$foreign; nothing was created." \
            "Remove them (nvidia-smi mig -i $gpu -dci, then -dgi), or plan anew"
    fi
    case $mode,$current in
    Enabled,Enabled | Disabled,Disabled | Disabled,*N/A* | Disabled,*"Not Supported"*) ;;
    Enabled,*N/A* | Enabled,*"Not Supported"*) fail "GPU $gpu: has no MIG" ;;
    *) todo="$todo GPU $gpu: MIG mode $current, planned $mode;" ;;
    esac
    [ -z "$missing" ] || todo="$todo GPU $gpu: missing $missing;"
    [ -z "$bare" ] || todo="$todo GPU $gpu: without compute instance$bare;"
}

# change GPU MODE IDS PLACEMENT...: mode, GPU instances at their placements, compute instances
change() {
    gpu=$1 mode=$2
    shift 3
    current=$(query "$gpu" mig.mode.current)
    case $mode,$current in
    Enabled,Disabled | Disabled,Enabled) switch "$gpu" "$mode" ;;
    esac
    look "$gpu" "$@"
    for instance in $bare; do
        nvidia-smi mig -i "$gpu" -gi "$instance" -cci || fail "GPU $gpu: no compute instance in GPU instance $instance"
    done
    if [ -n "$missing" ]; then
        nvidia-smi mig -i "$gpu" -cgi "$missing" -C ||
            fail "GPU $gpu: creating $missing failed; run this again once the cause is removed"
    fi
}

# switch GPU MODE: change the MIG mode; some GPUs take a reset for it
switch() {
    case $2 in
    Enabled) nvidia-smi -i "$1" -mig 1 || : ;;
    *) nvidia-smi -i "$1" -mig 0 || : ;;
    esac
    if [ "$(query "$1" mig.mode.current)" != "$2" ] && [ "$(query "$1" mig.mode.pending)" = "$2" ]; then
        nvidia-smi --gpu-reset -i "$1" || :
    fi
    [ "$(query "$1" mig.mode.current)" = "$2" ] ||
        fail "GPU $1: MIG mode is not $2; stop what uses the GPU and run this again, or reboot"
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
todo=""
plan examine
if [ -z "$todo" ]; then
    say "as planned"
    exit 0
fi
if [ "${1:-}" = check ]; then
    say "not as planned:$todo"
    exit 1
fi
plan change
todo=""
plan examine
[ -z "$todo" ] || fail "not as planned after all:$todo"
say "restored"
"""
"""POSIX shell; ``@HOST@`` is a comment, ``@PLAN@`` a line for each GPU: ``"$1" GPU MODE IDS PLACEMENT...``."""
