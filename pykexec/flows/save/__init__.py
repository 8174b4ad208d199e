"""What the capture kernel does: save the log, the report and the dump, verify, and end.

`settings` are the keys of /etc/pykexec.conf, `folders` the names and which old dumps may go,
`dump_command` how the dump is written, `saving` the order of the steps, `reading`, `room` and
`progress` what they read, make room with and show, and `saved` what was saved earlier. What opens
files and starts programs is in `backends/saving`.
"""
