#!/bin/sh
# What tests need of the system beside Python: a C compiler (the library that stands in for the NVIDIA driver), OpenSSH and
# cloud-init (the ESXi shell and the guests of vSphere). As root on Debian or Ubuntu missing ones are installed; elsewhere they
# are named. Go is found on the PATH, or taken from PyPI by the tests.
set -eu
PATH=$PATH:/usr/sbin:/sbin
missing=
want() { command -v "$1" >/dev/null 2>&1 || missing="$missing $2"; }
want "${CC:-cc}" gcc
[ -n "$missing" ] && missing="$missing libc6-dev"
want ssh openssh-client
want sshd openssh-server
want cloud-init cloud-init
[ -z "$missing" ] && exit 0
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    apt-get update -qq
    # shellcheck disable=SC2086 - names of packages, one word each
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends $missing >/dev/null
else
    echo "tests need these packages, install them first:$missing" >&2
    exit 1
fi
