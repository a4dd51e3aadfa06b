#!/bin/sh
# Prints a report over a log in the common log format.
set -eu
LC_ALL=C
export LC_ALL
if [ $# -ne 1 ]; then
	echo "usage: $0 LOG" >&2
	exit 2
fi
