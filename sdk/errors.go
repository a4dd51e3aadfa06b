package slicer

import (
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"strings"
	"unicode"
	"unicode/utf8"
)

// ErrIsDirectory is what errors.Is finds in the error of a call that wanted a
// file where the VM has a directory.
var ErrIsDirectory = errors.New("is a directory")

// APIError is a daemon's refusal of a request.
type APIError struct {
	Method     string // of the request
	Path       string // of the request, escaped, without the base URL's prefix and the query
	StatusCode int    // HTTP status
	Code       string // the daemon's name for the error, often empty
	Message    string // the daemon's words, on one line and cut at 1 KiB; may be empty
}

// Error returns the request's method and path, the status and the daemon's
// message.
func (e *APIError) Error() string {
	text := fmt.Sprintf("%s %s: %d %s", e.Method, e.Path, e.StatusCode, http.StatusText(e.StatusCode))
	text = strings.TrimRight(text, " ")
	if e.Message == "" {
		return text
	}
	return text + ": " + e.Message
}

// IsAPIStatus reports whether err is, or wraps, an APIError with this HTTP
// status.
func IsAPIStatus(err error, status int) bool {
	var refusal *APIError
	return errors.As(err, &refusal) && refusal.StatusCode == status
}

// fileError adds to a refusal of a file call what errors.Is asks for:
// fs.ErrNotExist when the path is missing, fs.ErrExist when it is there already,
// fs.ErrPermission when it may not be used, ErrIsDirectory when it is a directory
// where a file was wanted. Other errors are returned as they are.
//
// A 404 may also mean that the VM is missing, or that the daemon has no such
// route, and nothing but the message tells them apart: see isAboutPath. For a
// caller that asks whether a file exists, an error is better than a wrong no, so
// a message that says neither stays a plain 404.
func fileError(err error, vmName, vmPath string) error {
	var refusal *APIError
	if !errors.As(err, &refusal) {
		return err
	}
	message := strings.ToLower(refusal.Message)
	switch refusal.StatusCode {
	case http.StatusBadRequest:
		if strings.Contains(message, "must specify a file") || strings.Contains(message, "is a directory") {
			return fmt.Errorf("%w: %w", ErrIsDirectory, err)
		}
	case http.StatusForbidden:
		if strings.Contains(message, "permission denied") {
			return fmt.Errorf("%w: %w", fs.ErrPermission, err)
		}
	case http.StatusConflict: // also that of a paused VM
		if strings.Contains(message, "file exists") || strings.Contains(message, "already exists") {
			return fmt.Errorf("%w: %w", fs.ErrExist, err)
		}
	case http.StatusNotFound:
		message = strings.ReplaceAll(message, strings.ToLower(refusal.Path), " ")
		if plain, err := url.PathUnescape(refusal.Path); err == nil {
			message = strings.ReplaceAll(message, strings.ToLower(plain), " ")
		}
		if isAboutPath(message, strings.ToLower(vmName), strings.ToLower(vmPath)) {
			return fmt.Errorf("%w: %w", fs.ErrNotExist, err)
		}
	}
	return err
}

// isAboutPath reports whether the message of a 404, in lower case, is about a
// missing path: it repeats the path, or says "no such file", or speaks of a file
// or directory and not of a VM. The VM's own name, which may be any word, doesn't
// count.
func isAboutPath(message, vmName, vmPath string) bool {
	if strings.Count(vmPath, "/") > 0 && len(vmPath) > 1 && hasPath(message, vmPath) {
		return true
	}
	for _, word := range []string{"\"", "'", " "} {
		message = strings.ReplaceAll(message, word+vmName+word, " ")
	}
	switch {
	case strings.Contains(message, "no such file"):
		return true
	case strings.Contains(message, "vm") || strings.Contains(message, "node") || strings.Contains(message, "host"):
		return false
	}
	for _, words := range []string{"file", "directory", "path not found", "path does not exist"} {
		if strings.Contains(message, words) {
			return true
		}
	}
	return false
}

// hasPath reports whether message has vmPath as a whole path, not as a part of
// another.
func hasPath(message, vmPath string) bool {
	for from := 0; ; {
		at := strings.Index(message[from:], vmPath)
		if at < 0 {
			return false
		}
		start, end := from+at, from+at+len(vmPath)
		if !endsInPath(message[:start]) && !startsInPath(message[end:]) {
			return true
		}
		from = start + 1
	}
}

// endsInPath reports whether text ends in what a path would go on from.
func endsInPath(text string) bool {
	r, _ := utf8.DecodeLastRuneInString(text)
	return isPathRune(r)
}

// startsInPath reports whether text starts with what a path would go on with. A
// dot at the end of a sentence isn't.
func startsInPath(text string) bool {
	rest := strings.TrimLeft(text, ".")
	r, _ := utf8.DecodeRuneInString(rest)
	return rest != "" && isPathRune(r)
}

func isPathRune(r rune) bool {
	return r != utf8.RuneError && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("/._-~%", r))
}
