package tools

import (
	"path"
	"regexp"
	"strings"
)

// glob matches the names of files below a folder. Its zero value matches all.
type glob struct {
	expr  *regexp.Regexp
	whole bool // it is for the path from the folder on, not for the name alone
}

// parseGlob reads a glob: * and ? match in one name, ** across folders, [a-z]
// one character, {a,b} either. One without a slash is for names at any depth.
func parseGlob(text string) (glob, error) {
	rest := strings.TrimPrefix(text, "./")
	switch {
	case text == "":
		return glob{}, nil
	case strings.HasPrefix(rest, "!"):
		return glob{}, refuse("glob %s can't be used: it says what to look at, and takes nothing back. Name what is wanted.", quote(text))
	case strings.HasPrefix(rest, "/"), strings.HasPrefix(rest, "~/"):
		return glob{}, refuse("glob %s can't be used: it is matched below path, such as **/*.go. Put the folder in path.", quote(text))
	}
	translated, ok := globExpression(rest)
	expr, err := regexp.Compile(`(?s)^(?:` + translated + `)$`)
	if !ok || err != nil {
		return glob{}, refuse("glob %s is not well-formed: * and ? match in one name, ** across folders, [a-z] one character, {a,b} either.", quote(text))
	}
	return glob{expr: expr, whole: strings.Contains(rest, "/")}, nil
}

// matches says whether the glob takes a path, given from the folder on.
func (g glob) matches(rel string) bool {
	if g.expr == nil {
		return true
	}
	if !g.whole {
		rel = path.Base(rel)
	}
	return g.expr.MatchString(rel)
}

// globExpression writes a glob as a regular expression. It reports false for
// one whose brackets or braces don't close.
func globExpression(g string) (string, bool) {
	var out strings.Builder
	braces := 0
	for i := 0; i < len(g); i++ {
		switch c := g[i]; {
		case strings.HasPrefix(g[i:], "**/") && (i == 0 || g[i-1] == '/'):
			out.WriteString(`(?:[^/]+/)*`)
			i += len("**/") - 1
		case g[i:] == "**" && (i == 0 || g[i-1] == '/'):
			out.WriteString(`.+`)
			i++
		case c == '*':
			out.WriteString(`[^/]*`)
		case c == '?':
			out.WriteString(`[^/]`)
		case c == '[':
			class, n := globClass(g[i:])
			if n == 0 {
				return "", false
			}
			out.WriteString(class)
			i += n - 1
		case c == '{':
			braces++
			out.WriteString(`(?:`)
		case c == '}' && braces > 0:
			braces--
			out.WriteString(`)`)
		case c == ',' && braces > 0:
			out.WriteString(`|`)
		case c == '\\' && i+1 < len(g):
			i++
			out.WriteString(regexp.QuoteMeta(g[i : i+1]))
		default:
			out.WriteString(regexp.QuoteMeta(g[i : i+1]))
		}
	}
	return out.String(), braces == 0
}

// globClass writes the class at the beginning of g, and says how long it is
// there; 0 if it has no end.
func globClass(g string) (string, int) {
	body := g[1:]
	negated := strings.HasPrefix(body, "!") || strings.HasPrefix(body, "^")
	if negated {
		body = body[1:]
	}
	end := strings.IndexByte(body[min(1, len(body)):], ']')
	if end < 0 {
		return "", 0
	}
	body = body[:end+1]
	out := strings.NewReplacer(`\`, `\\`, `[`, `\[`, `]`, `\]`, `^`, `\^`).Replace(body) + "]"
	n := 1 + len(body) + 1
	if negated {
		return "[^/" + out, n + 1
	}
	return "[" + out, n
}
