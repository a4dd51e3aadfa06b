package tools

import (
	"context"
	"io"
	"regexp"
	"regexp/syntax"
	"unicode/utf8"
)

// lineExpr is a regular expression for lines. A caller's expression may be as
// large as it will and a guest's line as long, and together they may take
// minutes; so a match that may take long ends with its context.
type lineExpr struct {
	expr  *regexp.Regexp
	steps int // the most that one character takes
}

// quickSteps is how many steps a match may take without a look at its context:
// less than a second's.
const quickSteps = 16 << 20

// compileLine reads a regular expression of RE2.
func compileLine(text string) (*lineExpr, error) {
	expr, err := regexp.Compile(text)
	if err != nil {
		return nil, err
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil, err
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return nil, err
	}
	return &lineExpr{expr: expr, steps: len(program.Inst)}, nil
}

// find is where line matches, nil if it doesn't. The error is ctx's.
func (e *lineExpr) find(ctx context.Context, line []byte) (place []int, err error) {
	if len(line)*e.steps <= quickSteps {
		return e.expr.FindIndex(line), nil
	}
	place = e.expr.FindReaderIndex(&endingRunes{ctx: ctx, text: line})
	return place, ctx.Err()
}

// endingRunes are the characters of a text, until ctx ends.
type endingRunes struct {
	ctx  context.Context //nolint:containedctx // it lives for one call
	text []byte
}

// ReadRune implements io.RuneReader.
func (r *endingRunes) ReadRune() (c rune, size int, err error) {
	if len(r.text) == 0 || r.ctx.Err() != nil {
		return 0, 0, io.EOF
	}
	c, size = utf8.DecodeRune(r.text)
	r.text = r.text[size:]
	return c, size, nil
}
