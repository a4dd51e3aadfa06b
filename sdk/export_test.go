package slicer

// MatchExclude reports whether patterns leave out name, for the tests.
func MatchExclude(patterns []string, name string, isDir bool) (bool, error) {
	excluded, err := newExcluder(patterns)
	if err != nil {
		return false, err
	}
	return excluded.match(name, isDir), nil
}
