# The images of Atoll, without a shell or a package manager: GlusterFS and what it loads,
# and our programs, which are linked statically. 'make image-programs' builds these first:
#
#   docker buildx build --platform linux/amd64,linux/arm64 --target atoll-csi -t atoll-csi:v0 .
#
# The test cluster builds its images from this very file (tests/internal/cluster/images).
FROM debian:bookworm-slim AS packages
RUN apt-get update
RUN apt-get install -y --no-install-recommends glusterfs-client xfsprogs e2fsprogs util-linux
# What the programs need to run, and no more: themselves, what they load at run time, and
# the libraries of these. Names that are links come with what they point to.
RUN <<SCRIPT
set -e
lib=$(dirname $(ls -d /usr/lib/*-linux-gnu/glusterfs))
programs="/usr/sbin/glusterfs /usr/sbin/glusterfsd /usr/sbin/mkfs.xfs /usr/sbin/xfs_growfs /usr/sbin/xfs_io
  /usr/sbin/mkfs.ext4 /usr/sbin/mke2fs /usr/sbin/resize2fs /usr/sbin/e2fsck /usr/sbin/fsck.xfs /usr/sbin/xfs_repair /usr/sbin/blkid"
loaded=$(find $lib/glusterfs -name '*.so')
mkdir -p /image/usr/bin /image/usr/sbin /image/usr/lib /image/usr/lib64 /image/etc /image/tmp \
  /image/var/log/glusterfs /image/var/lib/glusterd /image/run/gluster
for d in bin sbin lib lib64; do ln -s usr/$d /image/$d; done
ln -s /run /image/var/run
chmod 1777 /image/tmp
for f in $programs $loaded $(ldd $programs $loaded | grep -o '/[^ :)]*' | sort -u); do
  while true; do
    real=$(readlink -f $(dirname $f))/$(basename $f)
    mkdir -p /image$(dirname $real)
    cp -a $real /image$real
    [ -L $real ] || break
    f=$(cd $(dirname $real) && realpath -s $(readlink $real))
  done
done
cp -a /etc/mke2fs.conf /image/etc/
printf 'root:x:0:0:root:/:/sbin/nologin\n' >/image/etc/passwd
printf 'root:x:0:\n' >/image/etc/group
printf 'hosts: files dns\n' >/image/etc/nsswitch.conf
mkdir -p /image/usr/share/doc
cd /usr/share/doc
cp -L --parents */copyright /image/usr/share/doc/
SCRIPT

# glusterfsd and the self-heal daemon of brick pods.
FROM scratch AS atoll-gluster
COPY --from=packages /image/ /
ENV PATH=/usr/bin:/usr/sbin
LABEL org.opencontainers.image.title="GlusterFS" org.opencontainers.image.licenses="GPL-2.0-only OR LGPL-3.0-or-later"

# Brick pods, but for GlusterFS: prepare, volfiles, agent, join, rebalance, quotad.
FROM atoll-gluster AS atoll-brick
ARG TARGETARCH
COPY bin/linux-${TARGETARCH}/atoll-brick /usr/bin/atoll-brick
ENTRYPOINT ["/usr/bin/atoll-brick"]

# The CSI driver: controller, node, mounter, catalog.
FROM atoll-gluster AS atoll-csi
ARG TARGETARCH
COPY bin/linux-${TARGETARCH}/atoll-csi /usr/bin/atoll-csi
ENTRYPOINT ["/usr/bin/atoll-csi"]

FROM scratch AS atoll-reconciler
ARG TARGETARCH
COPY bin/linux-${TARGETARCH}/atoll-reconciler /atoll-reconciler
USER 65532:65532
ENTRYPOINT ["/atoll-reconciler"]

# The command line, such as for the KRM function of kustomize and kpt (atoll fn).
FROM scratch AS atoll
ARG TARGETARCH
COPY bin/linux-${TARGETARCH}/atoll /atoll
USER 65532:65532
ENTRYPOINT ["/atoll"]
