package main

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// expectations are what is expected to fail or to check nothing, by scenario
// or scenario:check, and whether it did.
type expectations struct {
	failing   map[string]bool
	unchecked map[string]bool
}

// parseExpectations reads a file of expectations. Each must have a comment
// that gives its reason.
func parseExpectations(data []byte) (*expectations, error) {
	var doc struct {
		Server    []yaml.Node `yaml:"server"`
		Unchecked []yaml.Node `yaml:"unchecked"`
	}
	if err := yaml.Load(data, &doc, yaml.WithKnownFields()); err != nil {
		return nil, fmt.Errorf("read expected failures: %w", err)
	}
	e := &expectations{failing: make(map[string]bool), unchecked: make(map[string]bool)}
	for into, nodes := range map[*map[string]bool][]yaml.Node{&e.failing: doc.Server, &e.unchecked: doc.Unchecked} {
		for _, n := range nodes {
			if n.HeadComment == "" && n.LineComment == "" {
				return nil, fmt.Errorf("read expected failures: %s has no reason, in a comment above it", n.Value)
			}
			if _, ok := (*into)[n.Value]; ok {
				return nil, fmt.Errorf("read expected failures: %s is there twice", n.Value)
			}
			(*into)[n.Value] = false
		}
	}
	return e, nil
}

// verdict is what a run's results are worth.
type verdict struct {
	passed, failed, unchecked int      // scenarios, of those that are as expected
	problems                  []string // what isn't
}

// String says it in a line.
func (v verdict) String() string {
	text := fmt.Sprintf("%d pass, %d fail as expected, %d check nothing as expected", v.passed, v.failed, v.unchecked)
	if len(v.problems) > 0 {
		text += fmt.Sprintf(", %d PROBLEMS", len(v.problems))
	}
	return text
}

// judge compares a run's results with what is expected.
func (e *expectations) judge(res result) verdict {
	var v verdict
	if res.err != nil {
		v.problem(res, "%v", res.err)
	}
	for _, scenario := range res.scenarios {
		checks := res.checks[scenario]
		var bad, excused []check
		for _, c := range checks {
			switch {
			case c.Status != "FAILURE" && c.Status != "WARNING":
			case e.excuses(scenario, c):
				excused = append(excused, c)
			default:
				bad = append(bad, c)
			}
		}
		_, mayBeUnchecked := e.unchecked[scenario]
		_, mustFail := e.failing[scenario]
		switch passes := slices.ContainsFunc(checks, check.proves); {
		case len(checks) == 0:
			v.problem(res, "%s didn't run", scenario)
		case len(bad) > 0:
			for _, c := range bad {
				v.problem(res, "%s: %s: %s: %s", scenario, c.ID, c.Status, c.ErrorMessage)
			}
		case mustFail && len(excused) == 0:
			v.problem(res, "%s is expected to fail, and doesn't", scenario)
		case len(excused) > 0:
			v.failed++
		case passes && mayBeUnchecked:
			v.problem(res, "%s is expected to check nothing, and does", scenario)
		case passes:
			v.passed++
		case mayBeUnchecked:
			e.unchecked[scenario] = true
			v.unchecked++
		default:
			v.problem(res, "%s checked nothing", scenario)
		}
	}
	for scenario := range res.checks {
		if !slices.Contains(res.scenarios, scenario) {
			v.problem(res, "%s ran and isn't listed", scenario)
		}
	}
	return v
}

// excuses says whether a failed check is expected, and remembers it.
func (e *expectations) excuses(scenario string, c check) bool {
	for _, name := range []string{scenario, scenario + ":" + c.ID} {
		if _, ok := e.failing[name]; ok {
			e.failing[name] = true
			return true
		}
	}
	return false
}

// unused lists the expectations that nothing met.
func (e *expectations) unused() []string {
	var unused []string
	for name, met := range e.failing {
		if !met {
			unused = append(unused, name+" is expected to fail, and never did")
		}
	}
	for name, met := range e.unchecked {
		if !met {
			unused = append(unused, name+" is expected to check nothing, and never did so")
		}
	}
	slices.Sort(unused)
	return unused
}

// proves says whether c shows that the server does what its scenario asks. The
// suite's checks of every message against the schema don't: a refusal passes
// them too.
func (c check) proves() bool {
	return c.Status == "SUCCESS" && !strings.HasPrefix(c.ID, "wire-schema-")
}

func (v *verdict) problem(res result, format string, args ...any) {
	v.problems = append(v.problems, res.String()+": "+fmt.Sprintf(format, args...))
}
