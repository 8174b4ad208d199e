"""Reads what a crashed kernel left: one reader for every kind of dump, and on it modules that
can each be read alone.

The way of a byte: a file (`file`, or the random view of a `flattened` one) holds physical
memory (`elf_memory`, `kdump_memory` with the page codecs `lzo` and `snappy`); `vmcoreinfo`
names what the kernel exports for dump tools, `paging` translates its addresses, `reader`
puts these together. On it: `log` (`log_record`, `log_ring`, `log_records`, and `log_text` for
those who read it), `symbols` and `types` with `linux` to ask them, `tasks`, `modules`,
`registers`, `stacks` by the rules of `orc`, `memory`, `taint`, `panic`; `report` is all of it.
Whether a dump is whole: `vmcore_check`, which reads an ELF core as a `core_file` and its
pages by `vmcore_pages`, and `dump_check` for the other kinds. `vmcore` is the other side: the
file that the capture kernel of a simulated machine shows.
What is wrong with a dump is in `faults`, how its pages are packed in `page_codecs`, and which
pages it has in `page_map`.

Modules on the way from the file to the log import neither dataclasses nor typing: they
are a quarter of the time that printing a log takes.
"""
