awk "$program" "$1" | sort -k1.1,1.1 -k1.2r | awk '
{ kind = substr($0, 1, 1); text = substr($0, 2) }
kind == "0" { print text }
kind == "1" { if (!seen[kind]++) print "by status:"; print "  " text }
kind == "2" && ++pages <= 5 { if (pages == 1) print "most read:"; sub(/^0*/, "", text); print "  " text }
'
