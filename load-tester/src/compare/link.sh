# Makes two network namespaces joined by a veth pair, says so, and removes them
# when its input ends: also when the load tester was killed, which is why this
# is a process of its own. Touches no namespace that was there before.
#
# $1 server's namespace, $2 generator's, then the server's interface and address,
# then the generator's interface and addresses.

set -e
server=$1 client=$2 made=
server_if=$3 server_ip=$4 client_if=$5
shift 5

remove() {
    for name in $made; do
        # A server that changes its user is not told when the load tester ends.
        if [ "$name" = "$server" ]; then
            for pid in $(ip netns pids "$name"); do
                kill "$pid" || true
            done
        fi
        ip netns del "$name" || true
    done
}
# An interrupt ends the load tester, and with it the input.
trap '' INT HUP TERM
trap remove EXIT

ip netns add "$server"
made=$server
ip netns add "$client"
made="$server $client"

ip link add "$server_if" netns "$server" type veth peer name "$client_if" netns "$client"
ip -n "$server" addr add "$server_ip/24" dev "$server_if"
for address in "$@"; do
    ip -n "$client" addr add "$address/24" dev "$client_if"
done
# Not every host has IPv6.
ip -n "$server" addr add fd00:6b61::1/64 dev "$server_if" nodad || true
ip -n "$client" addr add fd00:6b61::2/64 dev "$client_if" nodad || true
ip -n "$server" link set lo up
ip -n "$client" link set lo up
ip -n "$server" link set "$server_if" up
ip -n "$client" link set "$client_if" up

echo ready
cat >/dev/null
