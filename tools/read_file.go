package tools

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"strings"
	"unicode/utf8"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
)

var _ = define(Tool{
	Name:        "read_file",
	Title:       "Read a file",
	Description: "Read a file in a microVM: text as numbered lines, a small picture as an image, other binary as size, type and SHA-256.",
	Toolset:     toolsetFiles,
	Effect:      Reads,
}, (*Toolset).readFile)

type readFileInput struct {
	FilePath string `json:"file_path" jsonschema:"required,minLength=1,maxLength=4096" jsonschema_description:"File in the VM"`
	vmArgument
	Offset int64 `json:"offset,omitempty" jsonschema:"minimum=1,maximum=1000000000000,default=1" jsonschema_description:"First line to read, from 1"`
	Limit  int64 `json:"limit,omitempty" jsonschema:"minimum=1,maximum=2000,default=2000" jsonschema_description:"Most lines to read"`
}

const (
	// longestLine is how many characters of a line are shown.
	longestLine = 2000

	// largestImage is how many bytes an image block may hold.
	largestImage = 1 << 20

	// furtherCount is how many bytes beyond what is shown are read to tell
	// how many lines a file has.
	furtherCount = 4 << 20

	// sniffed is how many bytes decide what a file is.
	sniffed = 8 << 10
)

func (t *Toolset) readFile(ctx context.Context, in readFileInput) (Result, error) {
	if err := checkVMPath("file_path", in.FilePath); err != nil {
		return Result{}, err
	}
	vm, err := t.resolve(ctx, in.VM)
	if err != nil {
		return Result{}, err
	}
	limited, cancel := context.WithTimeout(ctx, t.within(askTime))
	defer cancel()
	file, err := t.client.OpenFile(limited, vm.Hostname, in.FilePath)
	if err != nil {
		return Result{}, t.readFailed(ctx, err, vm, in)
	}
	defer file.Close()

	r := bufio.NewReaderSize(file, 64<<10)
	start, err := r.Peek(sniffed)
	if err != nil && !errors.Is(err, io.EOF) {
		return Result{}, t.readFailed(ctx, err, vm, in)
	}
	var res Result
	switch kind := http.DetectContentType(start); {
	case isImage(kind):
		res, err = readImage(r, kind, in.FilePath)
	case isBinary(start, kind):
		res, err = describeBinary(ctx, r, kind, file.Size, in, handle(vm))
	default:
		res, err = readLines(r, in, handle(vm))
	}
	if err != nil {
		return Result{}, t.readFailed(ctx, err, vm, in)
	}
	return res, nil
}

// readFailed says why a file can't be read.
func (t *Toolset) readFailed(ctx context.Context, err error, vm slicer.SlicerNode, in readFileInput) error {
	name, machine := quote(in.FilePath), quote(handle(vm))
	switch {
	case errors.Is(err, slicer.ErrIsDirectory):
		return refuse("%s is a folder in VM %s. List it with list_files(vm=%s, path=%s).", name, machine, machine, name)
	case errors.Is(err, fs.ErrNotExist):
		return t.notThere(vm, in.FilePath)
	case errors.Is(err, context.DeadlineExceeded):
		if s := t.standingOf(ctx, vm); s.text != "" {
			return &refusal{text: s.text}
		}
		return refuse("reading %s in VM %s was not done in time. Find the place with search_files, or read a part of it with exec, for example sed -n '1000,1100p'.", name, machine)
	}
	return t.fileFailed(ctx, err, fileCall{
		vm: vm, path: in.FilePath,
		instead: fmt.Sprintf("Read it with exec(vm=%s, user=%q, command=%s), or use another path.", machine, "root", quote("head -c 20000 -- "+shellWord(in.FilePath))),
		brokeOff: fmt.Sprintf("reading %s in VM %s broke off before its end: either it can't be read as a file is, like some in /proc and /sys, or the connection broke. Call list_vms to see the VM's status, then retry once, or look into it with exec(vm=%s, command=%s).",
			name, machine, machine, quote("head -c 1000 -- "+shellWord(in.FilePath))),
	})
}

// shellWord quotes a path for a shell, leaving a leading ~ to it.
func shellWord(s string) string {
	home := ""
	if s == "~" || strings.HasPrefix(s, "~/") {
		home, s = "~", s[1:]
	}
	if strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789/._-+") == "" {
		return home + s
	}
	return home + "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

func isImage(kind string) bool {
	switch kind {
	case "image/png", "image/jpeg", "image/gif", "image/webp":
		return true
	}
	return false
}

// isBinary says whether a file that begins like this is not for reading.
func isBinary(start []byte, kind string) bool {
	if bytes.IndexByte(start, 0) >= 0 {
		return true
	}
	if strings.HasPrefix(kind, "text/") {
		return false
	}
	// A character that the excerpt cuts in two is no fault.
	for cutOff := 0; cutOff < utf8.UTFMax && len(start) == sniffed; cutOff++ {
		if utf8.Valid(start[:len(start)-cutOff]) {
			return false
		}
	}
	return !utf8.Valid(start)
}

// readImage returns a picture, or describes one that is too large to show.
func readImage(r io.Reader, kind, name string) (Result, error) {
	data, err := io.ReadAll(io.LimitReader(r, largestImage+1))
	if err != nil {
		return Result{}, err
	}
	if len(data) <= largestImage {
		return Result{
			Text:  fmt.Sprintf("%s: %s, %s", quote(name), kind, count(int64(len(data)), "byte")),
			Image: &Image{MIMEType: kind, Data: data},
		}, nil
	}
	total, sum, err := hashAll(io.MultiReader(bytes.NewReader(data), r))
	if err != nil {
		return Result{}, err
	}
	return Result{Text: fmt.Sprintf("%s: %s, %s, SHA-256 %s. Too large to show (the most is 1 MiB): make a smaller one with exec and read that.",
		quote(name), kind, count(total, "byte"), sum)}, nil
}

// describeBinary says what can be told of a file that isn't for reading. Of one
// that is too large for the time of a call that is all but its SHA-256.
func describeBinary(ctx context.Context, r io.Reader, kind string, length int64, in readFileInput, vm string) (Result, error) {
	total, sum, err := hashAll(r)
	sum = "SHA-256 " + sum
	if errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil && length > 0 {
		total, err = length, nil
		sum = "too large for its SHA-256 in this call: exec with sha256sum makes it"
	}
	if err != nil {
		return Result{}, err
	}
	name := quote(in.FilePath)
	return Result{Text: fmt.Sprintf("%s is binary: %s, %s, %s. Use cp_from_vm(vm=%s, vm_path=%s, host_path=…) to have it on the host, or look into it with exec(vm=%s, command=%s).",
		name, kind, count(total, "byte"), sum, quote(vm), name, quote(vm), quote("head -c 512 -- "+shellWord(in.FilePath)+" | od -Ax -tx1z"))}, nil
}

// hashAll reads a file to its end for its size and SHA-256.
func hashAll(r io.Reader) (total int64, sum string, err error) {
	h := sha256.New()
	total, err = io.Copy(h, r)
	return total, hex.EncodeToString(h.Sum(nil)), err
}
