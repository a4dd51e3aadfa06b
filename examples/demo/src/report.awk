# One line of the log: host - - [time] "method path protocol" status bytes
NF == 10 {
	lines++
	status = $9
	bytes += ($10 == "-") ? 0 : $10
	class[substr(status, 1, 1) "xx"]++
	hits[$7]++
	host[$1]++
	next
}
{ odd++ }
END {
	printf "0requests %d\n", lines
	printf "0odd lines %d\n", odd
	printf "0bytes sent %d\n", bytes
	n = 0
	for (h in host) n++
	printf "0clients %d\n", n
	for (c in class) printf "1%s %d\n", c, class[c]
	for (p in hits) printf "2%06d %s\n", hits[p], p
}
