"""One module for each verb: its options, and one call to pykexec.cli.run."""
