"""Parsed image + memory map = plan = segment table. Everything here is pure, except `initrd`, which
reads the initrd's headers to check whether it can serve the kernel.

`plan_load` decides. Its input: `request` (with `implied`), `syscall_choice`, and what a backend
supplies for it, `granted`. Its result: `plan` (each thing with its `role`), `segment`, checked by
`kernel_rules`, and `bind` once the backup pages are known.

A capture kernel has a planner for each place that holds it until a crash: `crash_load` (reserved
memory, see `reservation`), `crash_by_normal` (source pages of the kernel), `panic_modes` (huge
pages, see `stage`, and `settle` for how long the stub waits); they share `capture_kernel` (with
`cmdline`, `capture_words` and `estimate`). Objects are placed in a `window` of free
memory (`space`; `lending` and `lent`: in movable memory), and the rest of it is `fill`.

`boot_protocol` is the one interface to what an architecture needs around an image: its `limits`,
and the code in front (`stub_job`, `console`), which `encryption` can forbid; `foreign` refuses the
images of other architectures. In x86/, `protocol` is
the implementation for x86. A normal load has a planner for each kind of image there: `linux64`,
`linux32`, `real_mode`, `elf_image`, `multiboot`; they share `normal_load`. What these put into
memory: `boot_params` (with `efi` and `next_map`), `multiboot_info`, `stub`. The addresses:
`layout`; the names of these things: `labels`.

In arm64/, `linux` is the planner, `device_tree` the boot information, and `completed` what a device
tree from a file lacks; `moved` warns about what goes on in memory that *stub-swap* moves,
`processors` knows which ones cannot be switched off, and `pools` how much memory devices take.
"""
