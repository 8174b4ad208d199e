"""Image files: what a file is, and what it requires.

`identify` tries the image types in order. Each is a module: `bzimage` (with `packed_vmlinux`),
`bzimage32`, `vmlinux`, `elf`, `multiboot` (with `multiboot_requests`); containers of those: `uki`,
`uimage`, `zboot`. `image` is the Image of arm64, and `banner` the version in a kernel. `foreign`
images are only described. A file that none of them accepts is named by `what_is_it`, from
`signatures`, `elf_kind` and `pe_kind`, and `refusal` makes the error. They read a file's parts with
`elf_file`, `elf_parts`, `pe`, `compression` and its `codecs`, and return a `kernel_image`.
`contents` are bytes that are streamed rather than held in memory; `digest_ahead` computes their
digest in the background; `initrd` looks into an initrd, by its `cpio` headers; `initrd_check` finds
what is wrong with one, with `stream_end` for compressed ones, and `initrd_size` how large it will
be; `zero_page` reads a captured one; `module_file` has the bytes of a multiboot module, and
`device_tree_file` those of a device tree; `unwrapped` is the kernel itself, for kexec_file_load(2).
"""
