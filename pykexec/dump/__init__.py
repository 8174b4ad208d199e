"""Reading crash dumps: one reader for every format, and modules on top of it that can each be read
alone.

How a byte is reached: a file (`file`, or the random-access view of a `flattened` one) holds
physical memory (`elf_memory`, `kdump_memory` with the page codecs `lzo` and `snappy`); `vmcoreinfo`
names what the kernel exports for dump tools, `kernel_memory` has it by virtual addresses, and
`reader` puts these together. On top of it: `log` (`log_record`, `log_ring`, `log_records`, and
`log_text` for output), `symbols` from the `kallsyms_tables`, `types` and the `image_data` that
symbols do not name, with `linux` to query them, `tasks`, `modules`, `registers` from `cpu_notes`,
`stacks`, `memory`, `taint`, `panic`; `report` combines them all. `architecture` selects what only
one architecture has, in folders of their names: `paging`, `registers` and, for `unwinders`,
`stacks`, with the rules of `orc` for x86, and for arm64 the `references` of instructions to data.
Whether a dump is complete: `vmcore_check`, which reads an ELF core as a `core_file` and its pages
by `vmcore_pages`, and `dump_check` for the other kinds. `vmcore` is the other side: the file that
the capture kernel of a simulated machine presents. `faults` has the errors of a damaged dump,
`page_codecs` the compression of its pages, and `page_map` which pages it has. `watch` is how
reading shows its progress.

Modules on the path from the file to the log import neither dataclasses nor typing, which would take
a quarter of the time that printing a log takes.
"""
