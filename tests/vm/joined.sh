# shellcheck shell=bash
# SPDX-License-Identifier: BSD-3-Clause
# joined.sh - what each of two machines that a cable joins does (pair), and what the command
# in the first one can do to the cable and in the other machine.
#
#     bash joined.sh MACHINE NIC-MODEL [COMMAND...]
#
#     on 2 COMMAND...     runs there; on 1, in the first one
#     cable_mtu 9000      at both ends
#     cable_down [M]      the cable is pulled; with M at that end, as if a switch stood
#     cable_up [M]        between: the other end does not see it
set -u
machine=$1 nic=$2
shift 2
PW_VM_DIR=$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")
export PW_VM_DIR

# ---- commands ----

on() {                  # MACHINE COMMAND...
    "$PW_VM_DIR/agent" "m$1" "$(printf '%q ' "${@:2}")"
}
cable_mtu() {           # BYTES
    ip link set c0 mtu "$1" && on 2 ip link set c0 mtu "$1"
}
cable_set() {           # true|false [MACHINE]
    local m
    for m in ${2:-1 2}; do
        ask_qemu "$m" set_link "{\"name\": \"nic-c0\", \"up\": $1}" || return
    done
}
cable_down() { cable_set false "$@"; }
cable_up() { cable_set true "$@"; }

# The monitor of that machine's QEMU. What it tells meanwhile has no number.
ask_qemu() {            # MACHINE COMMAND ARGUMENTS
    local answer=
    {
        echo '{"execute": "qmp_capabilities"}' >&4
        printf '{"execute": "%s", "arguments": %s, "id": %d}\n' "$2" "$3" $$ >&4
        while read -r -t 20 answer <&4; do
            [[ $answer != *"\"id\": $$"* ]] || break
        done
    } 4<> "/dev/vport1p$((2 + $1))"
    [[ $answer == *'"return"'* ]] && return
    echo "QEMU of m$1: $2: ${answer:-no answer}"
    return 1
}

# ---- what each does ----

# The interface with that address, when its driver has made it.
interface() {           # MAC NAME ADDRESS
    local path
    for _ in $(seq 100); do
        path=$(grep -l "$1" /sys/class/net/*/address) && break
        sleep 0.1
    done
    path=${path%/address}
    ip link set "${path##*/}" name "$2" && ip address add "$3/24" dev "$2" &&
        ip link set "$2" up
}
join() {
    hostname "m$machine"
    printf '127.0.0.1 localhost\n10.76.0.1 m1\n10.76.0.2 m2\n' > /etc/hosts
    case $nic in virtio-net*) ;; *) modprobe "$nic" || return ;; esac
    modprobe virtio_net && interface "52:54:00:00:00:0$machine" m0 "10.76.0.$machine" &&
        interface "52:54:00:00:01:0$machine" c0 "10.9.0.$machine"
}

join || { echo "the machines could not be joined"; exit 1; }
/run/busybox/busybox nc -ll -p 514 -e bash &
if [ "$machine" = 2 ]; then
    mkfifo /run/leave
    read -r < /run/leave
    exit 0
fi

for _ in $(seq 600); do
    on 2 true 2>/dev/null && break
    sleep 0.1
done
on 2 true || { echo "the other machine does not answer"; exit 1; }
export -f on cable_mtu cable_set cable_down cable_up ask_qemu
export OMPI_MCA_plm=rsh OMPI_MCA_plm_rsh_agent=$PW_VM_DIR/agent
export OMPI_MCA_oob_tcp_if_include=m0 OMPI_MCA_hwloc_base_binding_policy=none
"$@"
status=$?
on 2 bash -c 'echo > /run/leave' >/dev/null
exit $status
