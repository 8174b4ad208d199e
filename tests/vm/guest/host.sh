#!/bin/sh
# One request to the host over the second serial port, and its answer:
#   host mark TEXT           record TEXT and the time
#   host qmp COMMAND [JSON]  a QMP command; FILES/ in the JSON is the folder of the results
#   host exit STATUS         end the run
exec 3<> /dev/ttyS1
echo "$*" >&3
read -r answer <&3
[ "$answer" = ok ] || { echo "host: $answer" >&2; exit 1; }
