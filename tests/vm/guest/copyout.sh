#!/bin/sh -e
# copyout FOLDER: pass a folder (links followed) to the host, on this kernel's own disk.
# A second copyout of the same kernel replaces the first. The archive's size is stored in the
# last sector, for `copyin`: tar would read a disk to its end.
disk=$(cat /etc/disk)
exec 3<> "$disk"
tar -chf - -C "$1" . >&3
size=$(sed -n 's/^pos:[[:space:]]*//p' /proc/$$/fdinfo/3)
last=$(($(cat /sys/block/${disk##*/}/size) - 1))
echo "$size" | dd of="$disk" bs=512 seek=$last conv=sync 2> /dev/null
sync
blockdev --flushbufs "$disk"
