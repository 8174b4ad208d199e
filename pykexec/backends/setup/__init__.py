"""Carries out and undoes the steps of pykexec setup: `step` has the values, `journal` records
them as a `journal_document` before anything changes, `files` changes a file durably, and `acting`
does it all."""
