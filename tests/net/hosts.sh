# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# hosts.sh - several hosts on one machine, for bash scripts; needs root.
#
#     hosts_make 2 2          h1 and h2, two rails (r0, r1) between them
#     on 1 mpirun --host h1:1,h2:1 ...
#     link_down 2 0           somebody pulls the cable of r0 at h2
#
#         h1   m0  r0  r1     one process 1 (host.c) for each, in namespaces of its own:
#               |   |   |     net, uts, ipc, pid, mount; /dev/shm, /sys, boot_id and
#             [ s: bridges ]  /etc/hosts are its own, the rest of the file system is
#               |   |   |     everybody's
#         h2   m0  r0  r1
#
# m0 is the network by which mpirun and its daemons talk, that no test breaks; a job's
# transport is told to leave it alone. Rail R has the network 10.77.R.0/24, m0 10.76.0.0/24,
# host H the address H there. A bridge stands between, so that a cable can be pulled:
# the other host sees nothing of that. With `direct=1` two hosts are joined by their ends
# (faster, for measuring), and only then is there no switch and no m0.
#
# Nothing has a name on the machine: namespaces, their links and mounts are gone with
# their last process, and process 1 with the script that made it, however that ends.
#
# Sets `hosts` (how many) and `rails`; wants `tmp` (a folder) and `bld`.
# shellcheck disable=SC2016  # what the hosts' shells expand

net_src=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export PW_NET_DIR=${tmp:?}/net PW_NET_HOST=${bld:?}/tests/net/host
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$net_src/agent
# Of each: process 1 as seen from here, its pid namespace, and the parent with which it ends.
declare -A host_init=() host_pidns=() host_parent=()

# Why there can be no hosts here; nothing where there can.
hosts_impossible() {
    local needed
    for needed in ip nft unshare setpriv; do
        command -v $needed >/dev/null || { echo "there is no $needed here"; return; }
    done
    [ "$(id -u)" = 0 ] || { echo "namespaces for hosts need root"; return; }
    unshare --net --uts --ipc --pid --mount --fork --mount-proc true 2>/dev/null ||
        { echo "namespaces are not permitted here (CAP_SYS_ADMIN)"; return; }
    unshare --net ip link add pair0 type veth peer name pair1 2>/dev/null ||
        { echo "this kernel has no veth"; return; }
    unshare --net ip link add bridge0 type bridge 2>/dev/null ||
        echo "this kernel has no bridges"
}

# COMMAND there, with our directory and environment.
on() {                      # HOST COMMAND...
    local h=$1
    shift
    "$PW_NET_HOST" run "$PW_NET_DIR/h${h#h}" "$@"
}

# Its process 1. setpriv: it dies with us, and all in its pid namespace with it.
host_start() {              # HOST
    local h=$1 socket=$PW_NET_DIR/h$1 outer
    setpriv --pdeathsig KILL unshare --net --uts --ipc --pid --mount --fork --kill-child \
        --mount-proc "$PW_NET_HOST" serve "$socket" </dev/null &
    outer=$!
    disown "$outer"
    host_parent[$h]=$outer
    for _ in $(seq 1200); do
        [ ! -S "$socket" ] && kill -0 "$outer" 2>/dev/null || break
        sleep 0.05
    done
    read -r "host_init[$h]" < <(ps -o pid= --ppid "$outer")
    [ -n "${host_init[$h]}" ] || { echo "host $h did not start" >&2; return 1; }
    host_pidns[$h]=$(stat -Lc %i "/proc/${host_init[$h]}/ns/pid")
}

# Its own /dev/shm, boot_id, /etc/hosts and /sys, in its own mounts.
host_furnish() {            # HOST
    on "$1" bash -e -c '
        h=$1 dir=$2
        mount -t tmpfs -o size=2g none /dev/shm
        mount -t sysfs none /sys
        tr -d "\n" < /proc/sys/kernel/random/uuid > "$dir/boot_id.$h"
        echo >> "$dir/boot_id.$h"
        mount --bind "$dir/boot_id.$h" /proc/sys/kernel/random/boot_id
        mount --bind "$dir/hosts" /etc/hosts
        hostname "h$h"
        ip link set lo up' furnish "$1" "$PW_NET_DIR"
}

# A link of host and switch, or of both hosts.
link_make() {               # HOST NAME ADDRESS MTU
    local h=$1 name=$2 mtu=$4
    if [ -z "$direct" ]; then
        ip link add "$name" netns "${host_init[$h]}" type veth \
            peer name "${name}h$h" netns "${host_init[s]}"
        on s ip link set "${name}h$h" mtu "$mtu" master "b$name" up
    elif [ "$h" = 1 ]; then
        ip link add "$name" netns "${host_init[1]}" type veth \
            peer name "$name" netns "${host_init[2]}"
    fi
    on "$h" ip address add "$3/24" dev "$name"
    on "$h" ip link set "$name" mtu "$mtu" up
    link_route "$h" "$name" "$3"
}

# The usual congestion control, whatever this machine has by default.
link_route() {              # HOST NAME ADDRESS
    on "$1" ip route change "${3%.*}.0/24" dev "$2" proto kernel scope link src "$3" \
        congctl cubic 2>/dev/null
    return 0
}

hosts_make() {              # HOSTS RAILS [MTU]
    local h r mtu=${3:-1500}
    hosts=$1 rails=$2
    mkdir -p "$PW_NET_DIR"
    {
        echo "127.0.0.1 localhost"
        for h in $(seq "$hosts"); do
            if [ -z "$direct" ]; then echo "10.76.0.$h h$h"; else echo "10.77.0.$h h$h"; fi
        done
    } > "$PW_NET_DIR/hosts"
    for h in $(seq "$hosts"); do
        host_start "$h" && host_furnish "$h" || return 1
    done
    if [ -z "$direct" ]; then
        host_start s || return 1
        for r in m0 $(seq -f 'r%g' 0 $((rails - 1))); do
            on s ip link add "b$r" type bridge mcast_snooping 0 &&
                on s ip link set "b$r" mtu "$mtu" up || return 1
        done
    fi
    for h in $(seq "$hosts"); do
        [ -n "$direct" ] || link_make "$h" m0 "10.76.0.$h" 1500 || return 1
        for r in $(seq 0 $((rails - 1))); do
            link_make "$h" "r$r" "10.77.$r.$h" "$mtu" || return 1
        done
    done
    # mpirun and its daemons keep to m0, and to what has a fixed place there.
    if [ -z "$direct" ]; then export OMPI_MCA_oob_tcp_if_include=m0
    else export OMPI_MCA_oob_tcp_if_include=r0; fi
}
direct=

# All of it, now. Else it ends with the script.
hosts_remove() {
    local h
    for h in "${!host_init[@]}"; do
        kill -KILL "${host_parent[$h]}" 2>/dev/null
        rm -f "$PW_NET_DIR/h$h"
    done
    for h in "${!host_init[@]}"; do
        for _ in $(seq 250); do
            kill -0 "${host_init[$h]}" 2>/dev/null || break
            sleep 0.02
        done
    done
    host_init=() host_pidns=() host_parent=()
}

# For mpirun, with room for more than there are: --map-by node spreads ranks evenly.
host_list() {
    seq -f "h%g:16" -s, "$hosts"
}

# ---- its links ----

# The cable at that host, where there is a switch: the switch's end goes down, and the
# host sees no carrier. The others do not see it.
link_down() { on s ip link set "r$2h$1" down; }         # HOST RAIL
link_up() { on s ip link set "r$2h$1" up; }

# The interface, as its administrator does it: its routes go and come with it.
interface_down() { on "$1" ip link set "r$2" down; }    # HOST RAIL
interface_up() {
    on "$1" ip link set "r$2" up
    link_route "$1" "r$2" "10.77.$2.$1"
}

# Of what comes to that host, so much per hundred is lost; 0: nothing any more.
link_loss() {               # HOST RAIL PERCENT
    on "$1" nft destroy table netdev "loss$2" 2>/dev/null ||
        on "$1" nft delete table netdev "loss$2" 2>/dev/null
    [ "$3" = 0 ] && return
    on "$1" nft -f - <<< "table netdev loss$2 {
        chain in {
            type filter hook ingress device r$2 priority 0;
            numgen random mod 100 < $3 counter drop
        }
    }"
}

# No faster than that, as tc says it (500mbit), in both directions; "": as fast as it is.
link_rate() {               # HOST RAIL RATE
    local where=s name=r$2h$1
    [ -z "$direct" ] || where=
    if [ -z "$3" ]; then
        on "$1" tc qdisc del dev "r$2" root
        [ -z "$where" ] || on s tc qdisc del dev "$name" root
        return
    fi
    on "$1" tc qdisc replace dev "r$2" root tbf rate "$3" burst 128k latency 50ms
    [ -z "$where" ] || on s tc qdisc replace dev "$name" root tbf rate "$3" burst 128k latency 50ms
}

# Bytes that came in there so far, by any interface of that name.
link_received() {           # HOST INTERFACE
    on "$1" cat "/sys/class/net/$2/statistics/rx_bytes"
}

# ---- its processes ----

# All but process 1 and those by which we run something there, as seen from here.
host_pids() {               # HOST
    ps -eo pid=,ppid=,stat=,pidns= | awk -v ns="${host_pidns[$1]}" -v init="${host_init[$1]}" '
        $4 == ns && $1 != init && $2 != init && $3 !~ /^Z/ { print $1 }
        $4 == ns && $1 != init && $2 == init && $3 !~ /^Z/ { mine[$1] }
        END {
            for (p in mine) {
                file = "/proc/" p "/comm"
                if ((getline comm < file) > 0 && comm != "host")
                    print p
                close(file)
            }
        }'
}

# Everything there stands still, and goes on.
host_freeze() {             # HOST
    local p
    for p in $(host_pids "$1"); do kill -STOP "$p" 2>/dev/null; done
}
host_thaw() {               # HOST
    local p
    for p in $(host_pids "$1"); do kill -CONT "$p" 2>/dev/null; done
}
