#!/bin/sh
# The first process of both kernels: run /payload, report its exit status to the host, power off.
export PATH=/bin:/sbin:/usr/bin:/usr/sbin HOME=/root TERM=dumb
export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=/site:/lab
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs dev /dev
mkdir -p /dev/shm /tmp /run /out
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /run
mount -t tmpfs -o size=100% tmpfs /out
for module in $(cat /etc/modules.list); do insmod "$module"; done
stty -F "$(cat /etc/control)" raw -echo 2>/dev/null
echo 1 > /proc/sys/kernel/printk
host mark "$(cat /etc/stage) kernel: payload starts"
/payload
status=$?
host exit $status
poweroff -f
