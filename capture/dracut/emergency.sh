#!/bin/sh
# Sourced by dracut when the boot has failed.
/bin/pykexec-show-log
