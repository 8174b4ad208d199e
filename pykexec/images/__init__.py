"""Image files: what is this file, and what does it ask for.

`identify` tries the image types in order. Each is a module: `bzimage` (with `packed_vmlinux`),
`bzimage32`, `vmlinux`, `elf`, `multiboot` (with `multiboot_requests`); containers of those: `uki`,
`uimage`, `zboot`; `foreign` are only described. What none of them takes is named by `what_is_it`,
from `signatures`, `elf_kind` and `pe_kind`, and the error is made by `refusal`.
They read a file's parts with `elf_file`, `elf_parts`, `pe`, `compression` and its `codecs`, and
each becomes a `kernel_image`. `contents` are bytes that nobody holds; `digest_ahead` has their
digest begun; `initrd` looks into one, by its `cpio` headers; `initrd_check` says what is wrong with
one, with `stream_end` for what is compressed; `zero_page` reads a captured one; `module_file` is
what a multiboot image gets of one; `unwrapped` is a bzImage for kexec_file_load(2).
"""
