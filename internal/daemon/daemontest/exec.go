package daemontest

import (
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"unicode/utf8"
)

var bufferedFields = fields{
	"stdout": "text", "stderr": "text", "exit_code": "number", "error?": "text", "encoding?": "text",
	"pid?": "number", "started_at?": "time", "ended_at?": "time", "signal?": "text",
}

// testExec tests what an exec call takes and refuses.
func testExec(a *api) {
	vm := a.furnishedVM()
	for _, tt := range []struct {
		name  string
		argv  []string
		query []string
		want  string
	}{
		{"runs as ubuntu at home unless asked", []string{"where"}, nil, "1000 1000 /home/ubuntu \n"},
		{"root must be asked for", []string{"where"}, []string{"uid", "0"}, "0 0 /root \n"},
		{"2^32-1 stands for nobody in particular", []string{"where"}, []string{"uid", "4294967295", "gid", "4294967295"}, "1000 1000 /home/ubuntu \n"},
		{"takes a group", []string{"where"}, []string{"uid", "0", "gid", "1000"}, "0 1000 /root \n"},
		{"takes a folder", []string{"where"}, []string{"cwd", "/tmp"}, "1000 1000 /tmp \n"},
		{"~ is the user's home", []string{"where"}, []string{"cwd", "~", "uid", "0"}, "0 0 /root \n"},
		{"takes an environment", []string{"where"}, []string{"env", "GREETING=a b=c", "env", "OTHER="}, "1000 1000 /home/ubuntu a b=c\n"},
		{"arguments reach the program as they are", []string{"echo", "a  b", "", "$HOME", "*"}, nil, "a  b  $HOME *\n"},
		{"with a shell they are one string", []string{"echo", "a  b"}, []string{"shell", "/bin/bash"}, "a b\n"},
	} {
		a.run(tt.name, func(a *api) {
			got := a.buffered(vm, tt.argv, tt.query...)
			if got["stdout"] != tt.want || got["exit_code"] != 0.0 {
				a.t.Errorf("exec %q %q = %v, want %q", tt.argv, tt.query, got, tt.want)
			}
		})
	}
	a.run("buffered", func(a *api) { bufferedExec(a, vm) })
	a.run("is refused at once though its input is still to come", func(a *api) { refusedAtOnce(a, vm) })
	for _, tt := range []struct {
		name   string
		query  []string
		status int
		says   string
	}{
		{"no command", []string{"cmd", ""}, 400, "cmd"},
		{"another coding", []string{"cmd", "true", "stdio", "hex"}, 400, "stdio"},
		{"a flag that is no flag", []string{"cmd", "true", "stdin", "maybe"}, 400, "stdin"},
		{"buffered with stdin", []string{"cmd", "cat", "stdin", "true", "buffered", "true"}, 400, "together"},
		{"background with stdin", []string{"cmd", "cat", "stdin", "true", "background", "true"}, 400, "together"},
		{"background and buffered", []string{"cmd", "true", "buffered", "true", "background", "true"}, 400, "together"},
		{"a ring without a background", []string{"cmd", "true", "ring_bytes", "4096"}, 400, "background"},
		{"a ring of a negative size", []string{"cmd", "true", "background", "true", "ring_bytes", "-1"}, 400, "ring_bytes"},
		{"a user by name", []string{"cmd", "true", "uid", "root"}, 400, "uid"},
		{"a user beyond 32 bits", []string{"cmd", "true", "uid", "4294967296"}, 400, "uid"},
		{"a group by name", []string{"cmd", "true", "gid", "wheel"}, 400, "gid"},
		{"an environment that is none", []string{"cmd", "true", "env", "SECRETVALUE"}, 400, "env entry 1"},
		{"an environment without a name", []string{"cmd", "true", "env", "A=1", "env", "=x"}, 400, "env entry 2"},
		{"a relative folder", []string{"cmd", "true", "cwd", "tmp"}, 400, "cwd"},
		{"another user's home", []string{"cmd", "true", "cwd", "~root"}, 400, "cwd"},
		{"no command at all", nil, 400, "cmd is required"},
		{"a ring that is no number", []string{"cmd", "true", "background", "true", "ring_bytes", "1M"}, 400, "ring_bytes"},
		{"a NUL in the program's name", []string{"cmd", "a\x00b"}, 400, "NUL"},
		{"a NUL in the command", []string{"cmd", "echo", "args", "a\x00b"}, 400, "NUL"},
	} {
		a.run("refuses "+tt.name, func(a *api) {
			got := a.call("POST", vm+"/exec"+params(tt.query...), "")
			got.refused(tt.status, tt.says)
			if strings.Contains(string(got.body), "SECRETVALUE") {
				a.t.Errorf("%s = %s, which has the environment's value", got.call, got.body)
			}
		})
	}
}

func bufferedExec(a *api, vm string) {
	a.run("has both streams, the code and the times", func(a *api) {
		got := a.buffered(vm, []string{"say", "out", "err", "3"})
		if got["stdout"] != "out" || got["stderr"] != "err" || got["exit_code"] != 3.0 || got["error"] != "exit status 3" {
			a.t.Errorf("buffered exec = %v, want out, err, 3 and exit status 3", got)
		}
		for _, name := range []string{"pid", "started_at", "ended_at"} {
			if got[name] == nil {
				a.t.Errorf("buffered exec = %v, want %s", got, name)
			}
		}
	})
	a.run("leaves out what isn't wanted", func(a *api) {
		got := a.buffered(vm, []string{"say", "out", "err", "0"}, "stdout", "false")
		if got["stdout"] != "" || got["stderr"] != "err" || got["error"] != nil {
			a.t.Errorf("buffered exec without stdout = %v", got)
		}
	})
	a.run("in base64", func(a *api) {
		got := a.buffered(vm, []string{"say", "out", "err", "0"}, "stdio", "base64")
		if got["stdout"] != base64.StdEncoding.EncodeToString([]byte("out")) || got["encoding"] != "base64" {
			a.t.Errorf("buffered exec in base64 = %v", got)
		}
	})
	a.run("says why a command could not be started", func(a *api) {
		got := a.buffered(vm, []string{"/no/such/program"})
		if got["exit_code"] != 127.0 || got["error"] == nil || got["pid"] != nil {
			a.t.Errorf("buffered exec of nothing = %v, want 127, an error and no pid", got)
		}
	})
}

// refusedAtOnce tests that a client which has yet to send its input hears of a
// refusal.
func refusedAtOnce(a *api, vm string) {
	for _, tt := range []struct {
		name, path string
		status     int
		says       string
	}{
		{"exec in an unknown VM", "/vm/sbox-999/exec?cmd=cat&stdin=true", 404, `"sbox-999"`},
		{"exec with a bad query", vm + "/exec?cmd=cat&stdin=true&uid=root", 400, "uid"},
		{"exec with an unknown parameter", vm + "/exec?cmd=cat&stdin=true&colour=red", 400, `"colour"`},
		{"a copy into an unknown VM", "/vm/sbox-999/cp?path=/tmp/x&mode=binary", 404, `"sbox-999"`},
		{"a copy to a bad path", vm + "/cp?path=x&mode=binary", 400, "absolute"},
		{"a copy into a missing folder", vm + "/cp?path=/none/x&mode=binary", 404, "/none"},
		{"an archive onto a file", vm + "/cp?path=/etc/hostname&mode=tar", 400, "/etc/hostname"},
	} {
		a.run(tt.name, func(a *api) {
			body, open := io.Pipe()
			defer open.Close()
			a.send("POST", tt.path, body).refused(tt.status, tt.says)
		})
	}
}

// testExecStreams tests the frames of an exec and its input.
func testExecStreams(a *api) {
	vm := a.furnishedVM()
	for _, coding := range []string{"text", "base64"} {
		a.run("frames in "+coding, func(a *api) { typedFrames(a, vm, coding) })
	}
	a.run("exit codes", func(a *api) {
		for code, problem := range map[string]any{"0": nil, "1": "exit status 1", "42": "exit status 42", "255": "exit status 255"} {
			_, _, exit := a.stream(vm, []string{"say", "", "", code}).all()
			if got, _ := json.Marshal(exit["exit_code"]); string(got) != code || exit["error"] != problem || exit["signal"] != nil {
				a.t.Errorf("exit frame = %v, want %s and the error %v", exit, code, problem)
			}
		}
	})
	a.run("an end by a signal is told as such", func(a *api) {
		a.needs(Signals)
		for name, code := range map[string]float64{"TERM": 143, "KILL": 137, "USR1": 138} {
			_, _, exit := a.stream(vm, []string{"sh", "-c", "kill -" + name + " $$"}).all()
			if exit["exit_code"] != code || exit["signal"] != name || exit["error"] != "signal: "+name {
				a.t.Errorf("exit frame = %v, want %v and the signal %s", exit, code, name)
			}
		}
	})
	a.run("a command that can't start is an exit frame alone", func(a *api) {
		s := a.stream(vm, []string{"/no/such/program"})
		f := s.next()
		if f == nil || f["type"] != "exit" || f["exit_code"] != 127.0 || f["error"] == nil || s.next() != nil {
			a.t.Errorf("frames = %v, want one exit frame with 127 and an error", f)
		}
	})
	a.run("streams that aren't wanted are left out", func(a *api) {
		stdout, stderr, _ := a.stream(vm, []string{"say", "out", "err", "0"}, "stdout", "false").all()
		if stdout != "" || stderr != "err" {
			a.t.Errorf("exec with stdout=false = %q, %q, want err alone", stdout, stderr)
		}
		stdout, stderr, _ = a.stream(vm, []string{"say", "out", "err", "0"}, "stderr", "false").all()
		if stdout != "out" || stderr != "" {
			a.t.Errorf("exec with stderr=false = %q, %q, want out alone", stdout, stderr)
		}
	})
	a.run("text frames are whole characters", func(a *api) { wholeCharacters(a, vm) })
	a.run("base64 frames carry every byte", func(a *api) {
		bytes := make([]byte, 100_000)
		for i := range bytes {
			bytes[i] = byte(i * 7)
		}
		a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/bytes", "mode", "binary"), string(bytes))
		stdout, _, _ := a.stream(vm, []string{"cat", "/tmp/bytes"}, "stdio", "base64").all()
		if stdout != string(bytes) {
			a.t.Errorf("cat of %d bytes = %d bytes, or others", len(bytes), len(stdout))
		}
	})
	a.run("input is streamed while output streams", func(a *api) {
		s := a.stream(vm, []string{"cat"}, "stdin", "true")
		for _, line := range []string{"one\n", "two\n", "three\n"} {
			s.write(line)
			s.want(line) // before the next is written
		}
		s.stdin.Close()
		if stdout, _, exit := s.all(); stdout != "" || exit["exit_code"] != 0.0 {
			a.t.Errorf("after the input's end: %q and %v, want nothing more and 0", stdout, exit)
		}
	})
	a.run("without stdin the input is empty", func(a *api) {
		if stdout, _, _ := a.stream(vm, []string{"cat"}).all(); stdout != "" {
			a.t.Errorf("cat without stdin = %q", stdout)
		}
	})
	a.run("a client that goes away ends the command and its descendants", func(a *api) {
		s := a.stream(vm, []string{"family"})
		s.want("born\n")
		if got := a.output(vm, "running"); got == "0\n" {
			a.t.Fatalf("running = %q while the family lives, want some", got)
		}
		s.close()
		a.eventually("the end of the family", func() bool { return a.output(vm, "running") == "0\n" })
	})
}

func typedFrames(a *api, vm, coding string) {
	s := a.stream(vm, []string{"say", "out", "err", "3"}, "stdio", coding)
	first := s.next()
	if first["type"] != "started" || first["pid"].(float64) <= 0 {
		a.t.Fatalf("first frame = %v, want started with a pid", first)
	}
	for f := s.next(); f != nil; f = s.next() {
		kind, text := payload(a.t, f)
		if kind == "exit" {
			break
		}
		if want := map[string]string{"stdout": "out", "stderr": "err"}[kind]; text != want {
			a.t.Errorf("%s frame = %v, want %q", kind, f, want)
		}
		if _, encoded := f["encoding"]; encoded != (coding == "base64") {
			a.t.Errorf("frame = %v, want encoding with base64 alone", f)
		}
		s.rest[kind] += text
	}
	if s.exit["exit_code"] != 3.0 || s.exit["error"] != "exit status 3" || s.rest["stdout"] != "out" || s.rest["stderr"] != "err" {
		a.t.Errorf("out %q, err %q, exit %v, want out, err and 3", s.rest["stdout"], s.rest["stderr"], s.exit)
	}
	if extra := s.next(); extra != nil {
		a.t.Errorf("%v comes after the exit frame", extra)
	}
}

func wholeCharacters(a *api, vm string) {
	text := strings.Repeat("aé€😀<&>\u2028\"\\\n", 8000)
	a.ok(200, "POST", vm+"/cp"+params("path", "/tmp/text", "mode", "binary"), text)
	s := a.stream(vm, []string{"cat", "/tmp/text"})
	n := 0
	var all strings.Builder
	for f := s.next(); f != nil; f = s.next() {
		if f["type"] != "stdout" {
			continue
		}
		n++
		part := f["stdout"].(string)
		if strings.ContainsRune(part, utf8.RuneError) {
			a.t.Fatalf("frame %d has half a character", n)
		}
		all.WriteString(part)
	}
	if all.String() != text || n < 2 {
		a.t.Errorf("%d bytes in %d frames, want %d bytes in several", all.Len(), n, len(text))
	}
}

// testLegacy tests agents that answer as older ones do.
func testLegacy(a *api) {
	vm := "/vm/" + a.createVM("{}")
	a.run("frames are untyped, and have a code each", func(a *api) {
		got := a.ok(200, "POST", vm+"/exec"+execQuery([]string{"echo", "hello"}), "").is(typeNDJSON)
		var text string
		for line := range strings.Lines(string(got.body)) {
			f := object(a.t, got.call, []byte(line), fields{
				"timestamp": "time", "stdout?": "text", "stderr?": "text", "exit_code": "number", "error?": "text",
			})
			part, _ := f["stdout"].(string)
			text += part
		}
		if text != "hello\n" {
			a.t.Errorf("echo = %q, want hello", text)
		}
	})
	a.run("the last frame has the code", func(a *api) {
		got := a.ok(200, "POST", vm+"/exec"+execQuery([]string{"false"}), "")
		lines := strings.Split(strings.TrimSpace(string(got.body)), "\n")
		var last map[string]any
		if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last["exit_code"] != 1.0 {
			a.t.Errorf("false = %s, want a last frame with the code 1", got.body)
		}
	})
	a.run("a buffered answer has no more than it had", func(a *api) {
		got := a.ok(200, "POST", vm+"/exec"+execQuery([]string{"echo", "hello"}, "buffered", "true"), "")
		got.object(fields{"stdout": "text", "stderr": "text", "exit_code": "number", "error?": "text"})
	})
	for _, name := range []string{"background", "stdio", "ring_bytes"} {
		a.run("knows no "+name, func(a *api) {
			a.refused(400, name, "POST", vm+"/exec"+params("cmd", "true", name, "text"), "")
		})
	}
	for _, r := range routes() {
		if r.has("exec") || strings.HasPrefix(r.path, "/vm/{vm}/fs/") {
			a.run("knows no "+r.String(), func(a *api) {
				a.refused(http.StatusNotFound, "no such path", r.method, strings.Replace(r.path, "/vm/{vm}", vm, 1), "")
			})
		}
	}
	a.run("lists no background execs", func(a *api) { a.refused(405, "use POST", "GET", vm+"/exec", "") })
	a.run("cp is there", func(a *api) {
		a.ok(200, "POST", vm+"/cp?path=/tmp/x&mode=binary", "content").is(typeText)
	})
}
