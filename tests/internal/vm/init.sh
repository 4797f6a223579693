#!/bin/busybox sh
# The first process of a virtual machine: it mounts file systems, loads modules, runs the test
# named by TEST and switches the machine off. Kernel messages are on ttyS0, the test's output on
# ttyS1, with its exit status in the last line.
/bin/busybox mkdir -p /usr/bin /sbin /usr/sbin /proc /sys /dev /etc /tmp \
  /var/lib/glusterd /var/log/glusterfs /var/run/gluster
/bin/busybox --install -s
export PATH=/usr/sbin:/usr/bin:/sbin:/bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm
echo root:x:0:0:root:/:/bin/sh >/etc/passwd
echo root:x:0: >/etc/group
echo 127.0.0.1 localhost >/etc/hosts
for m in /modules/*; do
  insmod "$m"
done
ip link set lo up
for letter in a b c d e f g h; do
  [ "$DISKS" -gt 0 ] && ATOLL_VM_DISKS="$ATOLL_VM_DISKS /dev/vd$letter"
  DISKS=$((DISKS - 1))
done
export ATOLL_VM_DISKS
stty -F /dev/ttyS1 raw
cd /tmp
{
  /test -test.run "^$TEST\$" -test.v -test.timeout "$LIMIT"
  printf '\nexit status %d\n' $?
} >/dev/ttyS1 2>&1
poweroff -f
