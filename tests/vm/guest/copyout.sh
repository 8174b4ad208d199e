#!/bin/sh
# copyout FOLDER: give a folder (links followed) to the host, by way of this kernel's own disk.
# A second copyout of the same kernel replaces the first.
disk=$(cat /etc/disk)
tar -chf "$disk" -C "$1" . && sync && blockdev --flushbufs "$disk"
