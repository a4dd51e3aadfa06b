package tools

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

// longestError bounds an error's text in characters.
const longestError = 4000

// refusal is an error whose text is already meant for a model.
type refusal struct{ text string }

func (r *refusal) Error() string { return r.text }

// refuse makes a refusal. Values that come from a caller, a daemon or a guest
// go through quote or oneLine first.
func refuse(format string, args ...any) error {
	return &refusal{text: fmt.Sprintf(format, args...)}
}

// vmError is an error that the daemon gave about one VM.
type vmError struct {
	vm  string // as the model knows it
	err error
}

func (e *vmError) Error() string { return "vm " + e.vm + ": " + e.err.Error() }
func (e *vmError) Unwrap() error { return e.err }

// onVM says which VM err is about. A nil err stays nil.
func onVM(vm string, err error) error {
	if err == nil {
		return nil
	}
	return &vmError{vm: vm, err: err}
}

// explain turns an error into text for a model: what happened and what to do
// next. The text holds no Go error chain, no credentials and no request.
func (t *Toolset) explain(err error) string {
	text := explanation(err)
	if text == "" {
		text = "the call did not succeed, and no reason is known. Call list_vms to see the state of things."
	}
	return cut(text, longestError)
}

func explanation(err error) string {
	var told *refusal
	if errors.As(err, &told) {
		return told.text
	}
	var api *slicer.APIError
	if errors.As(err, &api) {
		return explainStatus(err, api)
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return "the daemon gave no answer in time, so this call was given up. It may be overloaded or stuck. Call list_vms to see whether it answers and what state the VMs are in, then retry; if it stays silent, tell the user."
	case errors.Is(err, context.Canceled):
		return "the call was cut off: this server is ending."
	}
	return explainConnection(err)
}

// explainStatus is for what the daemon refused by an HTTP status.
func explainStatus(err error, api *slicer.APIError) string {
	said := daemonSaid(api)
	switch api.StatusCode {
	case http.StatusUnauthorized:
		return badToken(said)
	case http.StatusForbidden:
		switch {
		case strings.HasPrefix(api.Path, "/hostgroup/") && api.Method == http.MethodDelete, strings.HasSuffix(api.Path, "/shutdown") && says(api, "protected"):
		case isFileCall(api), says(api, "permission denied"):
			return fmt.Sprintf("permission denied%s. Use another path, or user=\"root\".", said)
		default:
			return badToken(said)
		}
	}
	if api.StatusCode >= 300 && api.StatusCode < 400 {
		return fmt.Sprintf("the configured address answers with a redirect (status %d), so it is not the Slicer daemon itself. No argument can mend this. Tell the user to point SLICER_URL (or --url) of this MCP server at the daemon, with the right scheme, port and path, and to restart it.", api.StatusCode)
	}

	var about *vmError
	if errors.As(err, &about) {
		switch api.StatusCode {
		case http.StatusNotFound:
			return fmt.Sprintf("VM %s is gone: it ended or was deleted during this call%s. Call list_vms to see what is there, or create_vm for a new one.", quote(about.vm), said)
		case http.StatusConflict:
			return explainConflict(about.vm, api, said)
		case http.StatusForbidden:
			return fmt.Sprintf("the daemon protects VM %s: its host group always keeps it, so it can't be ended over the API%s. Leave it, and tell the user if it has to go.", quote(about.vm), said)
		}
	}
	switch {
	case outOfSpace(api):
		return fmt.Sprintf("the daemon has no room for this%s. A retry alone won't help: remove what isn't needed, such as VMs of yours, or ask the user to make room.", said)
	case api.StatusCode == http.StatusNotImplemented:
		return fmt.Sprintf("this daemon can't do that%s. Try another way, or tell the user that the daemon lacks it.", said)
	case api.StatusCode == http.StatusServiceUnavailable || api.StatusCode == http.StatusTooManyRequests:
		return fmt.Sprintf("the daemon is busy or shutting down%s. Retry in a few seconds; if it stays so, tell the user.", said)
	case api.StatusCode >= 500:
		return fmt.Sprintf("the daemon ran into an error of its own (status %d)%s. Retry once; if it stays, tell the user.", api.StatusCode, said)
	}
	return fmt.Sprintf("the daemon refused this (status %d)%s. Change the arguments accordingly, or call list_vms to see the state of things.", api.StatusCode, said)
}

func explainConflict(vm string, api *slicer.APIError, said string) string {
	// A VM's own name is in the message too, and may be any word.
	message := quoted.ReplaceAllString(strings.ToLower(api.Message), "")
	for _, status := range []string{statusPaused, statusSuspended, statusStopped} {
		if strings.Contains(message, status) {
			return wakeText(vm, status)
		}
	}
	return fmt.Sprintf("VM %s is not in a state that allows this%s. Call list_vms to see its status.", quote(vm), said)
}

// quoted is a quoted part of a daemon's message.
var quoted = regexp.MustCompile(`"[^"]*"`)

func badToken(said string) string {
	return fmt.Sprintf("the daemon refused this server's token: it is wrong or missing%s. No argument can mend this. Tell the user to set SLICER_TOKEN, or SLICER_TOKEN_FILE, in the environment of this MCP server and to restart it.", said)
}

// explainConnection is for a daemon that can't be reached or broke off. The
// address comes from the network error, which holds no credentials and no
// query, as a request's URL may.
func explainConnection(err error) string {
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return unreachable(dns.Name, "its name is not known")
	}
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		address := "the configured address"
		if op.Addr != nil {
			address = op.Addr.String()
		}
		return unreachable(address, innermost(op.Err))
	}
	if brokenOff(err) {
		return "the connection to the daemon broke before its answer was complete. Call list_vms to see the state of things, then retry."
	}
	return fmt.Sprintf("the daemon's answer could not be used: %s. Call list_vms to see the state of things, then retry once; if it stays, tell the user.", innermost(err))
}

func unreachable(address, why string) string {
	return fmt.Sprintf("the Slicer daemon at %s can't be reached: %s. No argument can mend this. Tell the user to start the daemon, or to point this MCP server at the right one with SLICER_URL (or --url), and then retry.", oneLine(address, 200), why)
}

// daemonSaid is the daemon's own message, in brackets, or nothing.
func daemonSaid(api *slicer.APIError) string {
	message := strings.TrimRight(oneLine(api.Message, 300), ". ")
	if message == "" {
		return ""
	}
	return fmt.Sprintf(" (the daemon says: %s)", message)
}

// innermost is the text of the error at the end of a chain.
func innermost(err error) string {
	for {
		next := errors.Unwrap(err)
		if next == nil {
			break
		}
		err = next
	}
	return strings.TrimRight(oneLine(err.Error(), 300), ". ")
}
