#!/bin/bash
# The first process of the lab's virtual machine: a copy-on-write view of the host's files, two soft-RoCE devices
# over a veth pair, the command, the end. Runs twice: on the host's bare root, then on the copy-on-write one.
# $1 is the directory of this run (shared with the host), $2 the kernel package's root.
job=$1
kernel=$2
p9=version=9p2000.L,trans=virtio,access=any,msize=512000

fail() {
    echo "lab: $*" >/dev/kmsg
    echo "$*" >"$job/failed"
    finish
}

finish() {
    sync
    echo b >/proc/sysrq-trigger # the machine ends instead of rebooting
    sleep 60
}

export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin

if [[ $3 != inside ]]; then
    mount -t proc proc /proc
    mount -t sysfs sys /sys
    grep -q ' /dev devtmpfs ' /proc/mounts || mount -t devtmpfs dev /dev
    mount -t 9p -o rw,$p9,cache=none lab-job "$job"
    modprobe -d "$kernel" overlay || fail "the kernel's module overlay does not load"
    mount -t tmpfs -o mode=0755 run /run
    mkdir /run/lower /run/upper /run/work /run/root
    # What the host has does not change while the machine runs, as far as the lab cares: cache it.
    mount -t 9p -o ro,$p9,cache=loose lab-root /run/lower &&
        mount -t overlay -o xino=off,lowerdir=/run/lower,upperdir=/run/upper,workdir=/run/work root /run/root ||
        fail "the copy-on-write view of the file system cannot be mounted"
    for directory in proc sys dev; do
        mkdir -p /run/root/$directory
        mount --move /$directory /run/root/$directory
    done
    mkdir -p /run/root/run/host "/run/root/$job"
    mount --bind "$job" "/run/root/$job"
    cd /run/root && pivot_root . run/host || exit 1
    exec /bin/bash "$job/init.sh" "$job" "$kernel" inside </dev/null >/dev/kmsg 2>&1
fi

# The old root stays mounted below: it holds the layers.
mkdir -p /dev/pts /dev/shm /lib/modules /tmp
mount -t devpts -o mode=620,ptmxmode=666 devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
for link in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do
    ln -sfn "/proc/self/${link#*:}" "/dev/${link%%:*}"
done
ln -sfn "$kernel/lib/modules/$(uname -r)" "/lib/modules/$(uname -r)"
hostname lab
ulimit -l unlimited
ulimit -n "$(ulimit -Hn)"

read -r -d '' directory <"$job/directory"
if [[ -e $job/shared ]]; then
    read -r -d '' environment <"$job/environment"
    if [[ -n $environment ]]; then
        mkdir /run/environment && mount --bind "$environment" /run/environment || fail "$environment cannot be seen"
    fi
    mount -t 9p -o rw,$p9,cache=mmap lab-here "$directory" || fail "$directory cannot be mounted"
    # Python's packages out of the copy-on-write view, which is cached: emulated, an import takes seconds without.
    if [[ -n $environment ]]; then
        mount --bind /run/environment "$environment" || fail "$environment cannot be mounted"
    fi
fi

modprobe -a veth rdma_rxe ib_uverbs rdma_ucm sch_netem || fail "the kernel's modules for soft-RoCE do not load"
ip link set lo up
ip link add veth0 type veth peer name veth1 || fail "no veth pair can be made"
for name in all default veth0 veth1; do
    echo 1 >/proc/sys/net/ipv4/conf/$name/accept_local
    echo 0 >/proc/sys/net/ipv4/conf/$name/rp_filter
    echo 1 >/proc/sys/net/ipv6/conf/$name/disable_ipv6 # else its chatter shares the link
done
for end in 0 1; do
    ip address add 10.9.9.$((end + 1))/24 dev veth$end
    ip link set veth$end mtu 4200 up # 4096 bytes of RDMA payload a packet
done
# Each address is reached through the veth pair and not through lo.
ip route add 10.9.9.2 dev veth0 src 10.9.9.1 table 102
ip rule add pref 10 iif lo to 10.9.9.2 lookup 102
ip route add 10.9.9.1 dev veth1 src 10.9.9.2 table 101
ip rule add pref 11 iif lo to 10.9.9.1 lookup 101
ip rule add pref 100 lookup local
ip rule del pref 0
# Each end knows the other's hardware address: no ARP that a lossy link could drop.
for end in 0 1; do
    ip neighbour replace 10.9.9.$((end + 1)) dev veth$((1 - end)) \
        lladdr "$(</sys/class/net/veth$end/address)" nud permanent
done
for end in 0 1; do
    rdma link add rxe$end type rxe netdev veth$end || fail "rxe$end cannot be made"
done
read -r netem <"$job/netem"
if [[ -n $netem ]]; then
    for end in 0 1; do
        # shellcheck disable=SC2086
        tc qdisc replace dev veth$end root netem $netem limit 20000 || fail "netem does not take: $netem"
    done
fi

port() {
    local path
    for path in /sys/class/virtio-ports/*; do
        [[ $(<"$path/name") == "virtme.$1" ]] && echo "/dev/${path##*/}"
    done
}

# The command may want another Debian than the host's around it.
inside=()
if [[ -e $job/userland ]]; then
    read -r -d '' userland <"$job/userland"
    seen=(/proc /sys /dev "$job")
    [[ -e $job/shared ]] && seen+=("$directory")
    for path in "${seen[@]}"; do
        mkdir -p "$userland$path" && mount --rbind "$path" "$userland$path" || fail "$path cannot be mounted in $userland"
    done
    inside=(chroot "$userland")
fi

: >"$job/started"
if [[ -e $job/interactive ]]; then
    setsid -c -w "${inside[@]}" /bin/bash "$job/command" </dev/ttyS0 >/dev/ttyS0 2>&1
else
    setsid -w "${inside[@]}" /bin/bash "$job/command" <"$(port stdin)" >"$(port stdout)" 2>"$(port stderr)"
fi
echo $? >"$job/status.new"
mv "$job/status.new" "$job/status"
finish
