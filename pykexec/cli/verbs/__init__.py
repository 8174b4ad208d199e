"""One module for each verb: its options and one call, of pykexec.cli.run."""
