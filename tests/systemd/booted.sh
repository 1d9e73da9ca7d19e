#!/bin/bash
# PID 1 of a machine of its own: overlays what a test must not change, then becomes a real systemd that runs one script.
# Started by booted.py in new mount, pid, ipc, uts, net and cgroup namespaces. LAB is a folder shared with the test.
set -eu
mount --make-rprivate /
# cgroups as this namespace sees them, so that several such machines do not share their slices.
if [ -d /sys/fs/cgroup/systemd ]; then
  umount -R /sys/fs/cgroup
  mount -t tmpfs tmpfs /sys/fs/cgroup -o mode=755
  while IFS=: read -r _ controllers _; do
    case $controllers in
      "") mkdir /sys/fs/cgroup/unified && mount -t cgroup2 cgroup2 /sys/fs/cgroup/unified ;;
      name=systemd) mkdir /sys/fs/cgroup/systemd && mount -t cgroup -o none,name=systemd cgroup /sys/fs/cgroup/systemd ;;
      devices) mkdir /sys/fs/cgroup/devices && mount -t cgroup -o devices cgroup /sys/fs/cgroup/devices ;;
    esac
  done </proc/self/cgroup
else
  umount -R /sys/fs/cgroup && mount -t cgroup2 cgroup2 /sys/fs/cgroup
fi
mount -t tmpfs tmpfs /run -o mode=755
mkdir -p /run/etc /run/lab
mount --bind "$LAB" /run/lab
cp -a /etc/. /run/etc/
mount --bind /run/etc /etc
for path in /opt /var/lib /usr/lib/sysusers.d /usr/lib/tmpfiles.d; do mount -t tmpfs tmpfs $path -o mode=755; done
mkdir -p /opt/tapgate/.venv/bin /opt/tapgate/.venv/lib/"$PYTHON" /opt/tapgate/src /opt/tapgate/site /opt/tapgate/base
mount --bind "$CHECKOUT" /opt/tapgate/src
mount --bind "$SITE" /opt/tapgate/site
mount --bind "$BASE" /opt/tapgate/base
# A Python that was built with a shared library of its own looks for it where it was built.
cat >/opt/tapgate/.venv/bin/python <<P
#!/bin/sh
export LD_LIBRARY_PATH=/opt/tapgate/base/lib
PYTHONPATH=\${PYTHONPATH:+\$PYTHONPATH:}/opt/tapgate/src:/opt/tapgate/site exec /opt/tapgate/base/bin/$PYTHON "\$@"
P
printf '#!/bin/sh\nexec /opt/tapgate/.venv/bin/python -m gateway "$@"\n' >/opt/tapgate/.venv/bin/tapgate
chmod 755 /opt/tapgate/.venv/bin/*
# The launcher that `tapgate install` makes.
mkdir -p /run/launcher/upper /run/launcher/work
mount -t overlay overlay -o lowerdir=/usr/bin,upperdir=/run/launcher/upper,workdir=/run/launcher/work /usr/bin
ln -sf /opt/tapgate/.venv/bin/tapgate /usr/bin/tapgate
for wants in sysinit basic multi-user sockets timers local-fs; do
  [ -d /lib/systemd/system/$wants.target.wants ] && mount -t tmpfs tmpfs /lib/systemd/system/$wants.target.wants
  rm -rf /etc/systemd/system/$wants.target.wants
done
: >/etc/fstab
mkdir -p /etc/systemd/system
for unit in systemd-udevd systemd-journald systemd-tmpfiles-setup systemd-sysctl systemd-modules-load \
  systemd-random-seed systemd-remount-fs dbus; do ln -sf /dev/null /etc/systemd/system/$unit.service; done
for unit in systemd-journald systemd-journald-dev-log systemd-journald-audit dbus; do
  ln -sf /dev/null /etc/systemd/system/$unit.socket
done
# As the README installs it: users, folders, units.
cp "$CHECKOUT"/systemd/tapgate.sysusers.conf /usr/lib/sysusers.d/tapgate.conf
cp "$CHECKOUT"/systemd/tapgate.tmpfiles.conf /usr/lib/tmpfiles.d/tapgate.conf
sed -i '/^tapgate/d;/^spi:/d;/^gpio:/d' /etc/passwd /etc/group /etc/shadow /etc/gshadow
systemd-sysusers
systemd-tmpfiles --create tapgate.conf
for unit in "${UNITS:-$CHECKOUT/systemd}"/*.service "${UNITS:-$CHECKOUT/systemd}"/*.slice; do
  [ ! -e "$unit" ] || cp "$unit" /etc/systemd/system/
done
# No network but the loopback, which has an address of a school's network and a public one too.
ip link set lo up
ip address add 10.9.9.1/24 dev lo
ip address add 203.0.113.7/32 dev lo
mkdir -p /etc/systemd/system/tapgate.service.d /etc/systemd/system/tapgate-hub.service.d
printf '[Service]\nStandardOutput=append:/run/lab/tapgate.log\nStandardError=append:/run/lab/tapgate.log\n' |
  tee /etc/systemd/system/tapgate.service.d/log.conf >/etc/systemd/system/tapgate-hub.service.d/log.conf
printf '[Unit]\nRequires=lab.service\n' >/etc/systemd/system/lab.target
cat >/etc/systemd/system/lab.service <<P
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
StandardOutput=append:/run/lab/out
StandardError=append:/run/lab/out
ExecStart=/bin/bash /run/lab/script
ExecStopPost=/bin/systemctl --force exit
TimeoutStartSec=150
P
mount -o bind,ro /proc/sys /proc/sys
exec env -i container=lab PATH=/usr/bin:/bin:/usr/sbin:/sbin \
  /lib/systemd/systemd --system --unit=lab.target --log-target=console --log-level=warning --show-status=no
