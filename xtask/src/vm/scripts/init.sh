#!/bin/busybox sh
# The guest's first process: devices, network, the payload, its exit status, the end.
/bin/busybox mkdir -p /bin /proc /sys /dev /tmp /root
/bin/busybox --install -s /bin
export PATH=/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
hostname guest
ifconfig lo up
ifconfig eth0 10.0.2.15 netmask 255.255.255.0
waited=0
while [ ! -e /dev/tpmrm0 ] && [ "$waited" -lt 100 ]; do waited=$((waited + 1)); usleep 50000; done
# As udev leaves it on a host.
chgrp tss /dev/tpmrm0 && chmod 0660 /dev/tpmrm0
stty -F /dev/ttyS1 raw
cd /tmp
sh /payload/run.sh </dev/null >/dev/ttyS1 2>&1
echo "VMEXIT:$?" >/dev/ttyS0
poweroff -f
