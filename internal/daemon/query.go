package daemon

import (
	"cmp"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"math"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxJSON bounds the body of a call that takes JSON, but for those that carry
// a userdata script or a secret.
const (
	maxJSON     = 1 << 20
	maxJSONData = 2 << 20

	// jsonTimeout is how long such a body may take to arrive.
	jsonTimeout = 30 * time.Second
)

// query is a call's query parameters, all of them known to its route.
type query url.Values

// parseQuery reads a raw query. A parameter that is not in params, or that
// comes twice without a * in params, is refused with its name.
func parseQuery(raw string, params []string) (query, error) {
	values, err := url.ParseQuery(raw)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the query can't be read: %v", err)
	}
	for name, list := range values {
		if slices.Contains(params, name+"*") {
			continue
		}
		if !slices.Contains(params, name) {
			return nil, refuse(http.StatusBadRequest, "unknown query parameter %q", name)
		}
		if len(list) > 1 {
			return nil, refuse(http.StatusBadRequest, "query parameter %q is there %d times", name, len(list))
		}
	}
	return query(values), nil
}

func (q query) text(name string) string   { return url.Values(q).Get(name) }
func (q query) list(name string) []string { return q[name] }
func (q query) has(name string) bool      { return len(q[name]) > 0 }

// flag is a boolean that is byDefault when absent.
func (q query) flag(name string, byDefault bool) (bool, error) {
	text := q.text(name)
	if text == "" {
		return byDefault, nil
	}
	b, err := strconv.ParseBool(text)
	if err != nil {
		return false, refuse(http.StatusBadRequest, "%s must be true or false, not %q", name, text)
	}
	return b, nil
}

// id is a user or group id; nil when absent, or when it is the number with
// which clients say "none".
func (q query) id(name string) (*uint32, error) {
	text := q.text(name)
	if text == "" {
		return nil, nil
	}
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "%s must be a number from 0 to %d, not %q", name, uint32(math.MaxUint32-1), text)
	}
	if n == math.MaxUint32 {
		return nil, nil
	}
	id := uint32(n)
	return &id, nil
}

// parsePermissions reads the octal permission bits that the parameter or field
// called name gives; "" is 0, which stands for whatever the default is.
func parsePermissions(name, text string) (fs.FileMode, error) {
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 8, 32)
	if err != nil || n == 0 || n > 0o777 {
		return 0, refuse(http.StatusBadRequest, "%s must be octal, 0001 to 0777, not %q; other bits can be set with chmod in the VM", name, text)
	}
	return fs.FileMode(n), nil
}

// readJSON decodes a call's body into v: one JSON value of at most limit
// bytes, with known fields only. An empty body leaves v as it is.
func readJSON(w http.ResponseWriter, r *http.Request, limit int64, v any) error {
	// Connections without deadlines end with their client.
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(jsonTimeout))
	defer func() { _ = conn.SetReadDeadline(time.Time{}) }()

	dec := json.NewDecoder(http.MaxBytesReader(w, r.Body, limit))
	dec.DisallowUnknownFields()
	err := dec.Decode(v)
	if errors.Is(err, io.EOF) {
		return nil
	}
	if err == nil {
		_, err = dec.Token()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			return refuse(http.StatusBadRequest, "the body has more after its JSON value")
		}
	}
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return refuse(http.StatusRequestEntityTooLarge, "the body is larger than %d bytes", tooLarge.Limit)
	}
	var wrongType *json.UnmarshalTypeError
	if errors.As(err, &wrongType) {
		return refuse(http.StatusBadRequest, "%s can't be a JSON %s", cmp.Or(wrongType.Field, "the body"), wrongType.Value)
	}
	return refuse(http.StatusBadRequest, "the body can't be read: %s", strings.TrimPrefix(err.Error(), "json: "))
}
