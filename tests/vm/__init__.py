"""Real kernels in QEMU: the lab, and the tests that run in it.

    pytest tests/vm                        the oldest supported Debian kernel (6.1)
    pytest tests/vm --all-kernels          6.12 and 7.x too
    pytest tests/vm --crash-lane           crash(8) on dumps, with the kernel's debug symbols
    pytest -m "not vm"                     everything but these

A test uses the fixture `vm` to run shell scripts in a throw-away machine; see `lab.VM.run`. The
parts of a machine (kernels, QEMU, tools) come from Debian's archive by package name, from the
mirror that this computer's own apt uses, into `$PYKEXEC_CACHE` (or `$XDG_CACHE_HOME/pykexec`, or
`~/.cache/pykexec`). Tests whose parts are not available are skipped, with the reason.

    debian.py     packages by name, unpacked into the cache
    supplies.py   the kernels, QEMU, busybox and the programs that tests use
    initramfs.py  file trees as newc archives
    python.py     the running Python, its library, and site folders, as file trees
    machine.py    one QEMU process from start to end
    session.py    the requests of a guest, and the answers
    region_module.py   the kernel module of module/, built for a guest's kernel
    gdb.py        writes into a guest's memory from outside
    lab.py        `VM.run`: scripts in, `Result` out
    guest/        what runs inside

The fixture `arm_vm` is a machine of arm64, QEMU's `virt`; its Python and programs are Debian's.
"""
