#!/bin/busybox sh
# The guest's first process where there is a disk: finds the system on it, adds the payload, lets the system begin.
/bin/busybox mkdir -p /bin /proc /sys /dev /system
/bin/busybox --install -s /bin
export PATH=/bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
for module in /modules/*; do insmod "$module"; done
waited=0
while [ ! -e /dev/vda ] && [ "$waited" -lt 100 ]; do waited=$((waited + 1)); usleep 50000; done
mount -t ext4 /dev/vda /system
mkdir -p /system/payload
cp /payload/* /system/payload/
cat >/system/etc/systemd/system/payload.service <<END
[Unit]
Description=What this guest is for
After=multi-user.target

[Service]
StandardInput=null
ExecStart=/bin/sh -c 'stty -F /dev/ttyS1 raw; sh /payload/run.sh >/dev/ttyS1 2>&1; echo "VMEXIT:\$?" >/dev/ttyS0; poweroff -f'
END
mkdir -p /system/etc/systemd/system/multi-user.target.wants
ln -sf /etc/systemd/system/payload.service /system/etc/systemd/system/multi-user.target.wants/
umount /proc /sys
exec switch_root /system /sbin/init
