#!/usr/bin/env bash
# Installs the Debian packages that tests and demo use, and unpacks the kernel of the virtual
# machines of tests/quota into .cache/kernel. Does nothing if everything is installed; without
# root, only reports what is missing.
set -euo pipefail
cd "$(dirname "$0")/.."
packages=(glusterfs-server glusterfs-client xfsprogs attr etcd-server strace iproute2 util-linux kmod qemu-system-x86
  containerd runc containernetworking-plugins iptables conntrack mmdebstrap busybox-static e2fsprogs postgresql sqlite3)
kernel=.cache/kernel
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
compgen -G "$kernel/boot/vmlinuz-*" >/dev/null && have_kernel=1 || have_kernel=
[ ${#missing[@]} -eq 0 ] && [ -n "$have_kernel" ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "deps: not root, so these packages stay missing: ${missing[*]:-} ${have_kernel:-the kernel in $kernel}" >&2
  echo "deps: run 'sudo make deps' (tests that need them are skipped)" >&2
  exit 0
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
if [ ${#missing[@]} -gt 0 ]; then
  echo "deps: installing ${missing[*]}"
  # No package may start its service: the tests start the programs themselves.
  policy=/usr/sbin/policy-rc.d
  if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' >$policy
    chmod +x $policy
    trap 'rm -rf "$scratch" $policy' EXIT
  fi
  apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
fi
# The kernel is only unpacked: installing it would write an initial ramdisk and make it this
# machine's next boot kernel.
if [ -z "$have_kernel" ]; then
  # linux-image-cloud-amd64 depends on the package of the newest version.
  package=$(apt-cache depends linux-image-cloud-amd64 | awk '$1 == "Depends:" {print $2; exit}')
  echo "deps: unpacking $package into $kernel"
  (cd "$scratch" && apt-get -q -o APT::Sandbox::User=root download "$package" >/dev/null)
  dpkg-deb -x "$scratch"/*.deb "$scratch/root"
  mkdir -p $kernel
  rm -rf $kernel/lib $kernel/boot
  # /boot last: a kernel that exists has its modules.
  mv "$scratch/root/lib" $kernel/lib
  depmod --basedir $kernel "$(ls $kernel/lib/modules)"
  mv "$scratch/root/boot" $kernel/boot
fi
