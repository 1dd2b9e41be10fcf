# Makes the network of three virtual hosts: the namespaces h0, h1 and h2, whose addresses are
# 10.77.0.10 to 10.77.0.12, on a bridge. hosts.sh and slurm.sh read it.
mount -t tmpfs tmpfs /run
mkdir -p /run/netns
ip link add br0 type bridge
ip link set br0 up
for i in 0 1 2; do
    ip netns add "h$i"
    ip link add "v$i" type veth peer name eth0 netns "h$i"
    ip link set "v$i" master br0 up
    ip netns exec "h$i" ip link set lo up
    ip netns exec "h$i" ip addr add "10.77.0.1$i/24" dev eth0
    ip netns exec "h$i" ip link set eth0 up
    ip netns exec "h$i" ip route add default dev eth0
done
