"""Parsed image + memory map = plan = segment table. Everything here is pure, but for `initrd`,
which reads the initrd's headers to say whether it can serve the kernel.

`plan_load` asks one planner. A normal load has one for each kind of image: `linux64`,
`linux32`, `real_mode`, `elf_image`, `multiboot`; they share `normal_load`. A capture
kernel is a Linux x86_64, and has one for each place to wait in: `crash_load` (reserved memory),
`crash_by_normal` (source pages of the kernel), `panic_modes` (huge pages of ours); they share
`capture`.

What the planners put into memory: `boot_params` (with `cmdline` and `efi`), `multiboot_info`,
`stub` (with `console`). Where they put it: `layout` (fixed limits), `space` (what is free),
`window`, `lending` (a window in movable memory), `fill`, `stage`, `estimate` (with
`capture_words`). What the next kernel
is told of memory: `next_map`. What comes of it: `plan`, `segment`, checked by `kernel_rules`, and
`bind` once the backup pages are known. What was asked: `request` (with
`implied`), `syscall_choice`; what a backend supplies for it: `granted`. Whether the
stub can run at all: `encryption`. How large a reservation has to be: `reservation`.
"""
