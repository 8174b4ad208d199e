#!/bin/bash
# Module of dracut, used only if it is named (--add pykexec): if the boot fails, the initrd of a
# capture kernel shows the end of the crashed kernel's log and reboots.

check() {
    return 255
}

depends() {
    echo base
}

install() {
    inst_multiple tail sleep
    inst_multiple -o makedumpfile vmcore-dmesg
    inst_simple "$moddir/show-log" /bin/pykexec-show-log
    inst_hook emergency 50 "$moddir/emergency.sh"
}
