package tools_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/mark3labs/mcp-go/mcp"

	"github.com/slicervm-mcp/slicervm-mcp/tools"
)

// TestField7FactsAreTheSameInEachForm holds each answer's text and its record
// against each other: some clients show the one, some the other, some both.
func TestField7FactsAreTheSameInEachForm(t *testing.T) {
	left := map[string]bool{}
	for _, tool := range tools.Catalogue() {
		left[tool.Name] = true
	}
	unfailed := maps.Clone(left)
	for _, row := range succeeding() {
		delete(left, row.tool)
		t.Run(row.tool+": "+row.rule, func(t *testing.T) {
			st := newFactsStage(t)
			if row.before != nil {
				row.before(st)
			}
			a := maps.Clone(row.args)
			if a["process"] == "<process>" {
				a["process"] = st.process()
			}
			if a == nil {
				a = args{}
			}
			if _, named := a["vm"]; !named && takesVM(row.tool) {
				a["vm"] = "web"
			}
			res := st.raw(t.Context(), row.tool, a)
			if res.IsError {
				t.Fatalf("%s failed: %s", row.tool, textOf(t, res))
			}
			sameFacts(t, row, res)
		})
	}
	for tool := range left {
		t.Errorf("no row has a success of %s", tool)
	}
	st := newFactsStage(t)
	for tool, calls := range failing() {
		delete(unfailed, tool)
		for _, a := range calls {
			errorFacts(t, tool, st.raw(t.Context(), tool, a))
		}
	}
	for tool := range unfailed {
		t.Errorf("no row has a failure of %s", tool)
	}
}

// takesVM says whether a tool works on a VM that may be left out.
func takesVM(tool string) bool {
	for _, entry := range tools.Catalogue() {
		if entry.Name == tool {
			var schema listedSchema
			return json.Unmarshal(entry.InputSchema, &schema) == nil && schema.Properties["vm"] != nil
		}
	}
	return false
}

// errorFacts holds an error to its form: a sentence with a next step, alone.
func errorFacts(t *testing.T, tool string, res *mcp.CallToolResult) {
	t.Helper()
	text := textOf(t, res)
	switch {
	case !res.IsError || res.StructuredContent != nil || len(res.Content) != 1:
		t.Errorf("%s = %d blocks, structuredContent %v, isError %v: want an error of text alone", tool, len(res.Content), res.StructuredContent, res.IsError)
	case json.Valid([]byte(text)):
		t.Errorf("%s: the error is JSON alone: %s", tool, text)
	case len(strings.Fields(text)) < 5:
		t.Errorf("%s: the error is %q, want a sentence", tool, text)
	}
}

var (
	number = regexp.MustCompile(`\d+(\.\d+)?`)
	// rounded is a size for people beside the exact one, and what names an
	// algorithm.
	rounded   = regexp.MustCompile(`\([0-9.]+ [KMGT]B\)|SHA-256|sha256sum`)
	separator = regexp.MustCompile(`(\d),(\d{3})\b`)
)

// plainNumbers is text without thousands separators and rounded sizes.
func plainNumbers(text string) string {
	text = rounded.ReplaceAllString(text, "")
	for separator.MatchString(text) {
		text = separator.ReplaceAllString(text, "$1$2")
	}
	return text
}

func sameFacts(t *testing.T, row factsRow, res *mcp.CallToolResult) {
	t.Helper()
	text := plainNumbers(textOf(t, res))
	for _, fact := range row.facts {
		if !strings.Contains(text, fact) {
			t.Errorf("the text lacks %q: %.1000s", fact, text)
		}
	}
	if row.bulk {
		if res.StructuredContent != nil {
			t.Errorf("bulk text beside structuredContent %v, which would replace it", res.StructuredContent)
		}
		return
	}
	raw, err := json.Marshal(res.StructuredContent)
	if err != nil {
		t.Fatal(err)
	}
	var rec map[string]any
	if err := json.Unmarshal(raw, &rec); err != nil || rec == nil {
		t.Fatalf("structuredContent is %s, want an object", raw)
	}
	leaves := &leaves{t: t, text: text, numbers: number.FindAllString(text, -1)}
	leaves.walk("", rec)
	record := leaves.seen.String()
	for _, fact := range append(row.facts, stageNames()...) {
		if in, there := strings.Contains(text, fact), strings.Contains(record, fact); in != there {
			t.Errorf("%q is in the text: %v, in the record: %v\ntext: %s\nrecord: %s", fact, in, there, text, raw)
		}
	}
	known := number.FindAllString(record, -1)
	for _, n := range leaves.numbers {
		if !slices.Contains(known, n) {
			t.Errorf("the number %s of the text is not in the record\ntext: %s\nrecord: %s", n, text, raw)
		}
	}
}

// leaves goes through a record and looks for its values in the text.
type leaves struct {
	t       *testing.T
	text    string
	numbers []string // of the text
	seen    strings.Builder
}

// said are the words for values that the text doesn't repeat, by key=value.
func said() map[string]string {
	return map[string]string{
		"owned=true": "owned by this server", "owned=false": "owned by ", "persistent=true": "persistent", "default=true": "the default", "default=false": "",
		"deleted=true": "is deleted", "folder=true": "of the list of its files", "running=true": "still running", "running=false": "",
		"state=done": "Copied ", "state=running": "", "type=directory": " folder", "outcome=created": "Created ", "outcome=overwritten": "Overwritten ",
	}
}

func (l *leaves) walk(key string, v any) {
	l.t.Helper()
	words, spoken := said()[fmt.Sprintf("%s=%v", key, v)]
	switch v := v.(type) {
	case map[string]any:
		hidden, _ := v["hidden"].(float64)
		for k, item := range v {
			l.walk(k, item)
			if list, ok := item.([]any); ok {
				fmt.Fprintf(&l.seen, "%d\n", len(list)+int(hidden)) // whoever sees the one sees the other
			}
		}
	case []any:
		fmt.Fprintf(&l.seen, "%d\n", len(v)) // a client that shows the record shows how many
		for _, item := range v {
			l.walk(key, item)
		}
	case string:
		fmt.Fprintln(&l.seen, v)
		if v == "" {
			l.t.Errorf("the record says nothing with its %s", key)
		}
		if !spoken {
			words = v
		}
		l.want(key, plainNumbers(words))
	case bool:
		if !spoken {
			l.t.Errorf("the record says %s=%v, and this test doesn't know the words for it", key, v)
		}
		l.want(key, words)
	case float64:
		n := strconv.FormatFloat(v, 'f', -1, 64)
		fmt.Fprintln(&l.seen, n)
		if !slices.Contains(l.numbers, n) {
			l.t.Errorf("%s=%s of the record is not in the text: %s", key, n, l.text)
		}
	default:
		l.t.Errorf("the record has %s=%v", key, v)
	}
}

func (l *leaves) want(key, words string) {
	l.t.Helper()
	// A path is quoted as JSON quotes it.
	if !strings.Contains(l.text, words) && !strings.Contains(l.text, strconv.Quote(words)) {
		l.t.Errorf("%s=%s of the record is not in the text: %s", key, words, l.text)
	}
}

// TestNoToolDeclaresAnOutputSchema is about records and schemas that contradict
// each other: TypeScript clients refuse such an answer whole. With no schema
// declared there is nothing to contradict.
func TestNoToolDeclaresAnOutputSchema(t *testing.T) {
	entries, _ := listTools(t)
	for _, raw := range entries {
		if strings.Contains(string(raw), `"outputSchema"`) {
			t.Errorf("%.80s… declares an outputSchema: every record must be validated against it, here", raw)
		}
	}
}
