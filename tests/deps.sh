#!/usr/bin/env bash
# Installs the Debian packages that tests and demo use. Does nothing where all
# are there, and says what is missing where it may not install.
set -euo pipefail
packages=(glusterfs-server glusterfs-client xfsprogs attr etcd-server strace iproute2 util-linux kmod user-mode-linux
  containerd runc containernetworking-plugins iptables conntrack mmdebstrap busybox-static e2fsprogs postgresql sqlite3)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f='${Status}' "$p" 2>/dev/null | grep -q 'install ok installed' || missing+=("$p")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -ne 0 ]; then
  echo "deps: not root, so these packages stay missing: ${missing[*]}" >&2
  echo "deps: run 'sudo make deps' (tests that need them are skipped)" >&2
  exit 0
fi
echo "deps: installing ${missing[*]}"
# The tests start what they need themselves: no package may start its service.
policy=/usr/sbin/policy-rc.d
if [ ! -e $policy ]; then
  printf '#!/bin/sh\nexit 101\n' >$policy
  chmod +x $policy
  trap 'rm -f $policy' EXIT
fi
export DEBIAN_FRONTEND=noninteractive
apt-get update -q >/dev/null
apt-get install -y -q --no-install-recommends "${missing[@]}" >/dev/null
