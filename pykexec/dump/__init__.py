"""Reads what a crashed kernel left: one reader for every kind of dump, and on it modules that
can each be read alone.

The way of a byte: a file (`file`, or the random view of a `flattened` one) holds physical
memory (`elf_memory`, `kdump_memory` with the page codecs `lzo` and `snappy`); `vmcoreinfo`
names what the kernel exports for dump tools, `paging` translates its addresses, `reader`
puts these together as a `Dump`. On it: `log` (`log_ring`, `log_records`) and everything
that a report needs.

Modules on the way from the file to the log import neither dataclasses nor typing: they
are a quarter of the time that printing a log takes.
"""
