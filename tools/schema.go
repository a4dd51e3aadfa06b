package tools

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/invopop/jsonschema"
)

// inputSchema derives the schema of a tool's arguments: one inlined object
// that takes no further properties.
func inputSchema[In any]() *jsonschema.Schema {
	r := jsonschema.Reflector{
		Anonymous:                  true,
		DoNotReference:             true,
		ExpandedStruct:             true,
		RequiredFromJSONSchemaTags: true,
	}
	var in In
	s := r.Reflect(in)
	s.Version = ""
	return s
}

// checkArguments holds a call's arguments against the schema and returns them
// as a JSON object that encoding/json decodes without loss: what was null is
// left out, defaults are filled in, an integer written as 3.0 reads 3. The
// error names every fault.
func checkArguments(tool string, s *jsonschema.Schema, raw json.RawMessage) (json.RawMessage, error) {
	if len(bytes.TrimSpace(raw)) == 0 {
		raw = json.RawMessage("{}")
	}
	dec := json.NewDecoder(bytes.NewReader(raw))
	dec.UseNumber()
	var v any
	if err := dec.Decode(&v); err != nil {
		return nil, refuse("the arguments of %s are not valid JSON.", tool)
	}
	given, ok := v.(map[string]any)
	if !ok && v != nil {
		return nil, refuse("the arguments of %s must be a JSON object, got %s.", tool, kindOf(v))
	}

	checked, faults := checkObject("", s, given)
	if len(faults) > 0 {
		return nil, refuse("%s was not called: %s", tool, strings.Join(faults, "\n"))
	}
	return json.Marshal(checked)
}

// checkObject holds an object's properties against its schema. place is where
// it stands, such as edits[0], and "" for the arguments themselves.
func checkObject(place string, s *jsonschema.Schema, given map[string]any) (map[string]any, []string) {
	faults := unknownArguments(given, parameters(s))
	if place != "" {
		for i := range faults {
			faults[i] = place + ": " + faults[i]
		}
		place += "."
	}
	checked := make(map[string]any, len(given))
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		name, param := p.Key, p.Value
		value := given[name]
		if value == nil {
			switch {
			case slices.Contains(s.Required, name):
				faults = append(faults, fmt.Sprintf("%s is required: %s", place+name, param.Description))
			case param.Default != nil:
				checked[name] = param.Default
			}
			continue
		}
		value, fault := checkValue(place+name, param, value)
		if fault != "" {
			faults = append(faults, fault)
			continue
		}
		checked[name] = value
	}
	return checked, faults
}

// parameters lists the names that a schema takes, in its order.
func parameters(s *jsonschema.Schema) []string {
	var names []string
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		names = append(names, p.Key)
	}
	return names
}

// unknownArguments says of each argument that isn't valid which one may be
// meant, and after the last which there are.
func unknownArguments(given map[string]any, valid []string) []string {
	var unknown []string
	for name := range given {
		if !slices.Contains(valid, name) {
			unknown = append(unknown, name)
		}
	}
	if len(unknown) == 0 {
		return nil
	}
	slices.Sort(unknown)
	const most = 5
	var faults []string
	for _, name := range unknown[:min(most, len(unknown))] {
		fault := "unknown argument " + quote(name)
		if near := nearest(name, valid); near != "" {
			fault += "; did you mean " + near + "?"
		}
		faults = append(faults, fault)
	}
	if more := len(unknown) - most; more > 0 {
		faults = append(faults, fmt.Sprintf("and %d more unknown arguments", more))
	}
	if len(valid) == 0 {
		return append(faults, "it takes no arguments")
	}
	return append(faults, "it takes: "+strings.Join(valid, ", "))
}

// checkValue holds one value against its schema and returns it normalised, or
// says in plain words what is wrong with it.
func checkValue(name string, s *jsonschema.Schema, v any) (any, string) {
	switch s.Type {
	case "string":
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Sprintf("%s must be a string, got %s", name, kindOf(v))
		}
		return text, checkString(name, s, text)
	case "integer":
		num, ok := v.(json.Number)
		if !ok {
			return nil, fmt.Sprintf("%s must be an integer, got %s", name, kindOf(v))
		}
		return checkInteger(name, s, num)
	case "boolean":
		if _, ok := v.(bool); !ok {
			return nil, fmt.Sprintf("%s must be true or false, got %s", name, kindOf(v))
		}
		return v, ""
	case "array":
		list, ok := v.([]any)
		if !ok {
			return nil, fmt.Sprintf("%s must be an array, got %s", name, kindOf(v))
		}
		if s.MinItems != nil && uint64(len(list)) < *s.MinItems {
			return nil, fmt.Sprintf("%s must have at least %d items, got %d", name, *s.MinItems, len(list))
		}
		if s.MaxItems != nil && uint64(len(list)) > *s.MaxItems {
			return nil, fmt.Sprintf("%s must have at most %d items, got %d", name, *s.MaxItems, len(list))
		}
		for i, item := range list {
			value, fault := checkValue(fmt.Sprintf("%s[%d]", name, i), s.Items, item)
			if fault != "" {
				return nil, fault
			}
			list[i] = value
		}
		return list, ""
	case "object":
		given, ok := v.(map[string]any)
		if !ok {
			return nil, fmt.Sprintf("%s must be an object, got %s", name, kindOf(v))
		}
		checked, faults := checkObject(name, s, given)
		return checked, strings.Join(faults, "; ")
	}
	return nil, fmt.Sprintf("%s is of a type that this server can't check", name)
}

func checkString(name string, s *jsonschema.Schema, text string) string {
	n := uint64(utf8.RuneCountInString(text))
	switch {
	case strings.Contains(text, "\x00"):
		return name + " must not contain a NUL character"
	case s.MinLength != nil && *s.MinLength == 1 && n == 0:
		return name + " must not be empty"
	case s.MinLength != nil && n < *s.MinLength:
		return fmt.Sprintf("%s must have at least %d characters, got %d", name, *s.MinLength, n)
	case s.MaxLength != nil && n > *s.MaxLength:
		return fmt.Sprintf("%s must have at most %d characters, got %d", name, *s.MaxLength, n)
	case len(s.Enum) > 0 && !slices.Contains(s.Enum, any(text)):
		var names []string
		for _, e := range s.Enum {
			names = append(names, fmt.Sprint(e))
		}
		return fmt.Sprintf("%s must be one of %s, got %s", name, strings.Join(names, ", "), quote(text))
	}
	return ""
}

func checkInteger(name string, s *jsonschema.Schema, num json.Number) (any, string) {
	value, err := num.Int64()
	if err != nil {
		f, err := num.Float64()
		switch {
		case err == nil && f != math.Trunc(f):
			return nil, fmt.Sprintf("%s must be an integer, got %s", name, oneLine(num.String(), 40))
		case err != nil || math.Abs(f) >= 1<<53:
			return nil, fmt.Sprintf("%s must be between %s and %s, got %s", name, s.Minimum, s.Maximum, oneLine(num.String(), 40))
		}
		value = int64(f)
	}
	low, errLow := strconv.ParseInt(s.Minimum.String(), 10, 64)
	high, errHigh := strconv.ParseInt(s.Maximum.String(), 10, 64)
	if (errLow == nil && value < low) || (errHigh == nil && value > high) {
		return nil, fmt.Sprintf("%s must be between %s and %s, got %d", name, s.Minimum, s.Maximum, value)
	}
	return value, ""
}

// kindOf names a JSON value's type with its article.
func kindOf(v any) string {
	switch v.(type) {
	case nil:
		return "null"
	case string:
		return "a string"
	case json.Number, float64:
		return "a number"
	case bool:
		return "a boolean"
	case []any:
		return "an array"
	}
	return "an object"
}
