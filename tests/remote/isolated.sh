#!/bin/sh
# Runs a command where nothing listens outside and nothing is left: in a network with a loopback
# alone, with its own processes, /dev/shm and folder for temporary files. `cargo xtask scale` calls
# it as `unshare -n -p -f -m -i --mount-proc --kill-child sh isolated.sh FOLDER COMMAND...`, where
# FOLDER is empty.
set -eu
ip link set lo up
mount -t tmpfs -o size=4g tmpfs /dev/shm
mount -t tmpfs tmpfs "$1"
export TMPDIR="$1" HOME="$1"
shift
# Ray: no reports of its use, no key of its own in the home folder.
export RAY_USAGE_STATS_ENABLED=0 RAY_AUTH_MODE=disabled RAY_TMPDIR="$TMPDIR"
# Open MPI: as root, on the loopback, and with more ranks than processors, which must then yield.
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
export PRTE_ALLOW_RUN_AS_ROOT=1 PRTE_ALLOW_RUN_AS_ROOT_CONFIRM=1
export OMPI_MCA_mpi_yield_when_idle=1 OMPI_MCA_btl_tcp_if_include=lo
export PYTHONDONTWRITEBYTECODE=1
exec "$@"
