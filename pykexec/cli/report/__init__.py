"""The results of the commands, one module for each: the value, its JSON document and its page.

A result is a class with `document` and `page` (see `answer`). Common parts of documents are in
`document_parts`, and common parts of pages in `page_parts`. The documents of `load` and of `vmcore
report` have separate modules: the first is imported only for --json, and the second is long.
"""
