#!/bin/sh -e
# copyin FOLDER: in the second kernel, get what the first kernel passed to `copyout`.
last=$(($(cat /sys/block/vda/size) - 1))
size=$(dd if=/dev/vda bs=512 skip=$last count=1 2> /dev/null | head -n 1)
mkdir -p "$1"
head -c "$size" /dev/vda | tar -xf - -C "$1"
