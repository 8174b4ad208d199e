"""Parsers of the headers that `kdump` declares with construct, whose import would take most of
the time of reading a log. `pytest tests/abi/test_kdump.py --update-golden` writes this module.
"""

from pykexec.abi.parser import Parser

disk_dump_header = Parser(
    "<8sl65s65s65s65s65s65s6xQQLllLLLLLLl",
    (
        "signature",
        "header_version",
        "utsname_sysname",
        "utsname_nodename",
        "utsname_release",
        "utsname_version",
        "utsname_machine",
        "utsname_domainname",
        "tv_sec",
        "tv_usec",
        "status",
        "block_size",
        "sub_hdr_size",
        "bitmap_blocks",
        "max_mapnr",
        "total_ram_blocks",
        "device_blocks",
        "written_blocks",
        "current_cpu",
        "nr_cpus",
    ),
)

kdump_sub_header = Parser(
    "<QllQQQQQQQQQQQ",
    (
        "phys_base",
        "dump_level",
        "split",
        "start_pfn",
        "end_pfn",
        "offset_vmcoreinfo",
        "size_vmcoreinfo",
        "offset_note",
        "size_note",
        "offset_eraseinfo",
        "size_eraseinfo",
        "start_pfn_64",
        "end_pfn_64",
        "max_mapnr_64",
    ),
)

makedumpfile_header = Parser(
    ">16sqq",
    (
        "signature",
        "type",
        "version",
    ),
)
