#!/bin/sh
# One request to the host over the serial port for it, and its answer:
#   host mark TEXT           record TEXT and the time
#   host qmp COMMAND [JSON]  a QMP command; FILES/ in the JSON is the folder of the results
#   host exit STATUS         end the run
exec 3<> "$(cat /etc/control)"
echo "$*" >&3
read -r answer <&3
[ "$answer" = ok ] || { echo "host: $answer" >&2; exit 1; }
