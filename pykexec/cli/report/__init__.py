"""The answers of the commands, one module each: the value, its JSON document and its page.

An answer is a class with `document` and `page` (see `answer`). What several documents have in
common is in `document_parts`, and what several pages have in common in `page_parts`. The answer
of `load`, and that of `vmcore report`, have their document in a module of its own: the first is
imported only for --json, and the second is long.
"""
