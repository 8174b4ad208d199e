"""The work of the capture kernel: save the log, the report and the dump, verify, and end.

`settings` has the keys of /etc/pykexec.conf, `folders` the names and which old dumps may be
removed, `dump_command` how the dump is written, `saving` the order of the steps, `reading`, `room`
and `progress` what they read, how they make room and what they show, and `saved` what was saved
earlier. The code that opens files and starts programs is in `backends/saving`.
"""
