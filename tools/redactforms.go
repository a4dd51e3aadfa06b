package tools

import (
	"encoding/base64"
	"html"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

const (
	// shortestLine is the least length of a line that is looked for alone.
	shortestLine = 8

	// longestEscaped bounds the values that are looked for in escaped forms,
	// each of which may be several times as long.
	longestEscaped = 4 << 10

	// armour begins and ends the first and the last line of a PEM block.
	armour = "-----"
)

// secretForm is one way in which a value may stand in a text.
type secretForm struct {
	text   string
	secret *knownSecret
	whole  bool // it stands for the whole value, not for a line of it

	// before and after say that the character of base64 beside it holds bits
	// of the value too, mixed with those of what stands there.
	before, after bool
}

// plainForms are the forms of a value in which its characters stand for
// themselves or are escaped.
func plainForms(value string) []secretForm {
	forms := []secretForm{{text: value, whole: true}}
	add := func(text string) {
		if len(text) >= shortestSecret && !slices.ContainsFunc(forms, func(f secretForm) bool { return f.text == text }) {
			forms = append(forms, secretForm{text: text, whole: true})
		}
	}
	if len(value) <= longestEscaped {
		add(cleaned(value))
		add(oneLine(value, len(value)))
		for _, quoted := range []string{strconv.Quote(value), strconv.QuoteToASCII(value)} {
			add(quoted[1 : len(quoted)-1])
		}
		for _, text := range []string{jsonText(value), url.QueryEscape(value), url.PathEscape(value)} {
			add(text)
			add(lowerEscapes(text))
		}
		add(htmlInJSON.Replace(jsonText(value)))
		add(strings.ReplaceAll(jsonText(value), "/", `\/`))
		add(strings.ReplaceAll(value, "'", `'\''`))
		add(inDoubleQuotes.Replace(value))
		add(shellSpecial.ReplaceAllString(value, `\$0`))
		add(html.EscapeString(value))
		add(htmlNames.Replace(value))
	}
	return append(forms, lineForms(value)...)
}

// How programs write characters that mean something where they print: JSON that
// may stand in a page, the shell's words, and mark-up.
var (
	htmlInJSON     = strings.NewReplacer("<", `\u003c`, ">", `\u003e`, "&", `\u0026`)
	inDoubleQuotes = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "$", `\$`, "`", "\\`")
	shellSpecial   = regexp.MustCompile(`[^A-Za-z0-9_@%+=:,./\x80-\x{10ffff}-]`)
	htmlNames      = strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;", `"`, "&quot;")
)

// lineForms are the lines of a value that has several. The first and the last
// of a PEM block are no secret.
func lineForms(value string) []secretForm {
	if !strings.Contains(value, "\n") {
		return nil
	}
	var forms []secretForm
	for line := range strings.Lines(value) {
		line = strings.TrimSpace(line)
		if len(line) >= shortestLine && !strings.HasPrefix(line, armour) {
			forms = append(forms, secretForm{text: line})
		}
	}
	return forms
}

// cleaned is a value as the output of a command shows it.
func cleaned(value string) string {
	var b strings.Builder
	c := cleaner{emit: func(text []byte) { b.Write(text) }}
	c.write(value)
	c.close()
	return b.String()
}

// jsonText is a value as a JSON string holds it.
func jsonText(value string) string {
	raw, err := marshalJSON(value)
	if err != nil || len(raw) < 2 {
		return ""
	}
	return string(raw[1 : len(raw)-1])
}

var percentEscape = regexp.MustCompile(`%[0-9A-F]{2}`)

func lowerEscapes(text string) string {
	return percentEscape.ReplaceAllStringFunc(text, strings.ToLower)
}

// base64Forms are the forms of a value inside a base64 text: three, since it may
// begin at any of the three places of a group. The characters that hold other
// bits too are not in them.
func base64Forms(value string) []secretForm {
	var forms []secretForm
	for lead := range 3 {
		text := base64.RawStdEncoding.EncodeToString([]byte(strings.Repeat("\x00", lead) + value))
		f := secretForm{whole: true, before: lead > 0, after: (lead+len(value))%3 > 0}
		if f.after {
			text = text[:len(text)-1]
		}
		if lead > 0 {
			text = text[lead+1:]
		}
		f.text = text
		forms = append(forms, f)
	}
	return forms
}

// foldBase64 writes the URL-safe alphabet as the ordinary one.
func foldBase64(text []byte) []byte {
	folded := slices.Clone(text)
	for i, b := range folded {
		switch b {
		case '-':
			folded[i] = '+'
		case '_':
			folded[i] = '/'
		}
	}
	return folded
}

func isBase64(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '+' || b == '/'
}
