#!/bin/sh
# Three virtual hosts, each with its own network, name, /dev/shm and folder for temporary files, on
# a bridge. While tasks run on all of them, something happens to one:
#
#   power    the power of host2 goes off: all its processes are killed and its cable is pulled
#   cut      the cable of host2 is pulled, and its processes run on
#   pause    all processes of host2 are stopped for 30 seconds, and go on
#   driver   the program, on host0, is killed
#
# `cargo xtask scale ray|dask --hosts` calls it in isolated.sh. Arguments: the event, the retries of
# the tasks, and the Python that runs the cluster.
set -u
EVENT="$1" RETRIES="$2" PYTHON="$3"
. "$(dirname "$0")/bridge.sh"
# Ray notices a lost machine in 2 seconds with these, and Dask in 12, the least that it takes; and a
# machine of Ray's that is cut off gives up after 10.
export RAY_health_check_initial_delay_ms=5000 RAY_health_check_period_ms=500
export RAY_health_check_timeout_ms=1000 RAY_health_check_failure_threshold=3
export RAY_gcs_rpc_server_reconnect_timeout_s=10
export DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP=12s DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL=15s

# Runs a command on a host.
on_host() {
    number="$1"
    shift
    ip netns exec "h$number" unshare -u -m sh -c '
        hostname "host$0"
        mount -t tmpfs -o size=1g tmpfs /dev/shm
        export TMPDIR="$TMPDIR/h$0" RAY_TMPDIR="$TMPDIR/h$0"
        mkdir -p "$TMPDIR"
        exec "$@"' "$number" "$@"
}

# Sends all processes of a host a signal.
signal_host() {
    for pid in $(ip netns pids "$1"); do
        kill "-$2" "$pid" 2> /dev/null
    done
}

# Prints the children and proxies of this package, and Ray's actors that are its agents, on hosts.
left_on() {
    for host in "$@"; do
        for pid in $(ip netns pids "$host"); do
            if tr '\0' ' ' 2> /dev/null < "/proc/$pid/cmdline" | grep -qE 'procession.spawn|^ray::Agent'; then
                echo "$host:$pid"
            fi
        done
    done
}

# Waits until nothing of the program is left on hosts, 90 seconds at most.
wait_until_gone() {
    for _ in $(seq 180); do
        [ -z "$(left_on "$@")" ] && return 0
        sleep 0.5
    done
    echo "still running after 90 seconds: $(left_on "$@" | tr '\n' ' ')"
    return 1
}

if [ "$PROCESSION_TEST_CLUSTER" = ray ]; then
    terms='--object-store-memory=100000000 --disable-usage-stats'
    on_host 0 ray start --head --num-cpus=1 --node-ip-address=10.77.0.10 --port=6379 --include-dashboard=false $terms \
        > "$TMPDIR/log" 2>&1 || cat "$TMPDIR/log"
    # One after another: of two that start at once one often gives up.
    for i in 1 2; do
        on_host $i ray start --address=10.77.0.10:6379 --node-ip-address=10.77.0.1$i --num-cpus=2 $terms \
            > "$TMPDIR/log" 2>&1 || cat "$TMPDIR/log"
    done
    export RAY_ADDRESS=10.77.0.10:6379
else
    on_host 0 dask scheduler --host 10.77.0.10 --port 8786 --no-dashboard > "$TMPDIR/log" 2>&1 &
    for i in 0 1 2; do
        on_host $i dask worker 10.77.0.10:8786 --host 10.77.0.1$i --nthreads 1 --nworkers $((i > 0 ? 2 : 1)) --no-dashboard \
            > "$TMPDIR/log$i" 2>&1 &
    done
    export DASK_SCHEDULER_ADDRESS=10.77.0.10:8786
fi
on_host 0 "$PYTHON" "$(dirname "$0")/hosts.py" "$RETRIES" "$TMPDIR/begun" "$TMPDIR/pid" &
program=$!
while [ ! -e "$TMPDIR/begun" ]; do
    kill -0 $program 2> /dev/null || break
    sleep 0.2
done
sleep 5
case "$EVENT" in
    power)
        echo 'host2 loses its power'
        signal_host h2 KILL
        ip link set v2 down
        wait $program || exit 1
        wait_until_gone h0 h1 h2
        ;;
    cut)
        echo 'the cable of host2 is pulled'
        ip link set v2 down
        wait $program || exit 1
        wait_until_gone h0 h1 h2
        ;;
    pause)
        echo 'host2 stops for 30 seconds'
        signal_host h2 STOP
        sleep 30
        echo 'host2 goes on'
        signal_host h2 CONT
        wait $program || exit 1
        wait_until_gone h0 h1 h2
        ;;
    driver)
        if [ -z "$(left_on h0)" ] || [ -z "$(left_on h1)" ] || [ -z "$(left_on h2)" ]; then
            echo "nothing runs on a host: $(left_on h0 h1 h2 | tr '\n' ' ')"
            exit 1
        fi
        echo 'the program is killed'
        kill -9 "$(cat "$TMPDIR/pid")"
        wait_until_gone h0 h1 h2
        ;;
    *)
        echo "no such event: $EVENT"
        exit 1
        ;;
esac
