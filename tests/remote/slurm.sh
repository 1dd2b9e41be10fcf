#!/bin/sh
# Slurm on three virtual hosts: the controller on host0, and two nodes of 4 processors. It runs the
# recipes of docs/scale on it: a program on MPI by srun, by mpiexec within a job, on Dask and on Ray.
# It needs Debian's slurm-wlm, munge and libpmix2. `cargo xtask scale --slurm` calls it in isolated.sh.
# Arguments: the Python that has the clusters' libraries, and the recipes to run (all by default).
set -u
PYTHON="$1"
shift
RECIPES="${*:-srun mpiexec dask ray}"
HERE="$(cd "$(dirname "$0")" && pwd)"
mkdir -p "$TMPDIR/state"
. "$HERE/bridge.sh"
printf '127.0.0.1 localhost\n10.77.0.10 host0\n10.77.0.11 host1\n10.77.0.12 host2\n' > "$TMPDIR/hosts"
mount --bind "$TMPDIR/hosts" /etc/hosts
export SLURM_CONF="$TMPDIR/slurm.conf" OMPI_MCA_btl_tcp_if_include=eth0
# The nodes say that they have more processors than this machine has, so ranks are bound to none.
export PRTE_MCA_hwloc_default_binding_policy=none
cat > "$SLURM_CONF" <<CONF
ClusterName=test
SlurmctldHost=host0(10.77.0.10)
AuthType=auth/munge
AuthInfo=socket=$TMPDIR/munge.socket
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$TMPDIR/state
SlurmdSpoolDir=$TMPDIR/spool-%n
SlurmctldPidFile=$TMPDIR/slurmctld.pid
SlurmdPidFile=$TMPDIR/slurmd-%n.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
ReturnToService=2
NodeName=host1 NodeAddr=10.77.0.11 CPUs=4
NodeName=host2 NodeAddr=10.77.0.12 CPUs=4
PartitionName=all Nodes=ALL Default=YES State=UP
CONF

echo 'IgnoreSystemd=yes' > "$TMPDIR/cgroup.conf"

# Runs a command on a host.
on_host() {
    number="$1"
    shift
    # Not by ip: slurmd wants to see the control groups in /sys.
    nsenter --net="/run/netns/h$number" unshare -u -m sh -c '
        hostname "host$0"
        mount -t tmpfs -o size=1g tmpfs /dev/shm
        mount -t tmpfs tmpfs /tmp
        exec "$@"' "$number" "$@"
}

dd if=/dev/urandom of="$TMPDIR/munge.key" bs=128 count=1 2> /dev/null
chmod 600 "$TMPDIR/munge.key"
munged --force --key-file="$TMPDIR/munge.key" --socket="$TMPDIR/munge.socket" --pid-file="$TMPDIR/munged.pid" \
    --log-file="$TMPDIR/munged.log" --seed-file="$TMPDIR/munged.seed" || cat "$TMPDIR/munged.log"
on_host 0 slurmctld -D > "$TMPDIR/slurmctld.log" 2>&1 &
for i in 1 2; do
    on_host $i slurmd -D -N "host$i" > "$TMPDIR/slurmd$i.log" 2>&1 &
done
for _ in $(seq 100); do
    [ "$(on_host 0 sinfo -h -o %D -t idle 2> /dev/null)" = 2 ] && break
    sleep 0.2
done
on_host 0 sinfo

failed=0
# Submits a recipe as a job, waits for its end, and looks for what its program prints last.
run_recipe() {
    name="$1"
    on_host 0 sbatch --wait --output="$TMPDIR/$name.out" --chdir="$HERE" --export=ALL "$HERE/slurm/$name.sbatch"
    code=$?
    cat "$TMPDIR/$name.out"
    if [ $code != 0 ] || ! grep -q '^100 squares on host1 host2$' "$TMPDIR/$name.out"; then
        echo "the recipe $name has failed: exit code $code"
        tail -n 20 "$TMPDIR"/slurm*.log
        failed=1
    fi
}

PATH="$(dirname "$PYTHON"):$PATH"
export PATH
for recipe in $RECIPES; do
    echo "recipe $recipe"
    run_recipe "$recipe"
done
exit $failed
