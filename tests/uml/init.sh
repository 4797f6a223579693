#!/bin/sh
# The first process of the machine inside: file systems, modules, the test, the end.
dir=${0%/*}
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mount -t tmpfs tmp /run
mkdir -p /dev/shm
# Folders of the tests inside go with the machine.
mkdir /run/tmp && export TMPDIR=/run/tmp
for m in fuse loop; do
  insmod "$(find "/usr/lib/uml/modules/$(uname -r)" -name "$m.ko")" 2>/dev/null
done
ip link set lo up
sh "$dir/run" >"$dir/out" 2>&1
echo $? >"$dir/code"
sync
mount -o remount,ro / 2>/dev/null
exec /sbin/poweroff -f 2>/dev/null
