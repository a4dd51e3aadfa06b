package slicer_test

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	slicer "github.com/slicervm-mcp/slicervm-mcp/sdk"
	"github.com/slicervm-mcp/slicervm-mcp/sdk/slicertest"
)

// The benchmarks run each call beside its plain counterpart, turn by turn, and
// report the median of both and their "ratio": how many times as long as the
// plain one the call takes.

const (
	benchFrames = 2048
	benchChunk  = 32 << 10 // of output in a frame
)

// pair times a call and its plain counterpart.
func pair(b *testing.B, bytes int64, ours, plain func()) {
	b.Helper()
	allocs := testing.AllocsPerRun(1, ours)
	plain()
	var oursTook, plainTook []time.Duration
	for b.Loop() {
		start := time.Now()
		plain()
		between := time.Now()
		ours()
		plainTook = append(plainTook, between.Sub(start))
		oursTook = append(oursTook, time.Since(between))
	}
	o, p := median(oursTook), median(plainTook)
	b.ReportMetric(allocs, "allocs/op")
	b.ReportMetric(float64(o.Nanoseconds()), "ns/op")
	b.ReportMetric(float64(p.Nanoseconds()), "plain-ns/op")
	b.ReportMetric(float64(o)/float64(p), "ratio")
	if bytes > 0 {
		b.ReportMetric(float64(bytes)/o.Seconds()/1e6, "MB/s")
		b.ReportMetric(float64(bytes)/p.Seconds()/1e6, "plain-MB/s")
	}
}

func median(times []time.Duration) time.Duration {
	slices.Sort(times)
	return times[len(times)/2]
}

// benchOutput is the exec stream of a command that writes benchFrames frames.
func benchOutput(tb testing.TB, encoding string) []byte {
	tb.Helper()
	output := make([]byte, benchChunk)
	if encoding == "base64" {
		rng := rand.New(rand.NewPCG(1, 2))
		for i := range output {
			output[i] = byte(rng.Uint32())
		}
	} else {
		copy(output, strings.Repeat("-rw-r--r-- 1 ubuntu ubuntu 4096 Mar  1 12:00 some_file_name.go\n", benchChunk/64+1))
	}
	frame := map[string]any{"type": "stdout", "timestamp": "2026-03-01T12:00:00.123456789Z", "stdout": string(output)}
	if encoding == "base64" {
		frame["encoding"], frame["stdout"] = encoding, base64.StdEncoding.EncodeToString(output)
	}
	line, err := json.Marshal(frame)
	if err != nil {
		tb.Fatal(err)
	}
	line = append(line, '\n')
	stream := []byte(`{"type":"started","pid":1}` + "\n")
	stream = append(stream, bytes.Repeat(line, benchFrames)...)
	return append(stream, `{"type":"exit","exit_code":0}`+"\n"...)
}

// serveOutput answers every call with stream, a frame at a time.
func serveOutput(b *testing.B, stream []byte) string {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for rest := stream; len(rest) > 0; {
			n := bytes.IndexByte(rest, '\n') + 1
			if _, err := w.Write(rest[:n]); err != nil {
				return
			}
			rest = rest[n:]
		}
	}))
	b.Cleanup(server.Close)
	return server.URL
}

// rawRead makes the same request by hand and reads the answer's bytes.
func rawRead(b *testing.B, client *http.Client, url string, buf []byte) {
	b.Helper()
	req, err := http.NewRequestWithContext(b.Context(), http.MethodPost,
		url+"/vm/vm-1/exec?cmd=x&stdio=base64&stdout=true&stderr=true&uid=0&gid=0", http.NoBody)
	if err != nil {
		b.Fatal(err)
	}
	resp, err := client.Do(req)
	if err != nil {
		b.Fatal(err)
	}
	defer resp.Body.Close()
	for err == nil {
		_, err = resp.Body.Read(buf)
	}
	if !errors.Is(err, io.EOF) {
		b.Fatal(err)
	}
}

// BenchmarkExecOutput compares reading a command's output with reading the bytes
// of the same answer over HTTP.
func BenchmarkExecOutput(b *testing.B) {
	for _, encoding := range []string{"base64", "text"} {
		stream := benchOutput(b, encoding)
		url := serveOutput(b, stream)
		client := slicer.NewSlicerClient(url, "", "", nil)
		defer client.CloseIdleConnections()
		plainClient := &http.Client{Transport: &http.Transport{DisableCompression: true}}
		defer plainClient.CloseIdleConnections()
		buf := make([]byte, 128<<10)
		plain := func() { rawRead(b, plainClient, url, buf) }
		const total = benchFrames * benchChunk

		for _, way := range []struct {
			name string
			run  func()
		}{
			{"RemoteCmd", func() {
				var got counter
				cmd := client.Command(b.Context(), "vm-1", "x")
				cmd.Stdout = &got
				if err := cmd.Run(); err != nil || got.n != total {
					b.Fatalf("Run = %v after %d bytes, want nil after %d", err, got.n, total)
				}
			}},
			{"Exec", func() {
				results, err := client.Exec(b.Context(), "vm-1", slicer.SlicerExecRequest{Command: "x"})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for result := range results {
					n += len(result.Stdout)
				}
				if n != total {
					b.Fatalf("Exec: %d bytes, want %d", n, total)
				}
			}},
		} {
			b.Run(way.name+"/"+encoding, func(b *testing.B) {
				pair(b, total, way.run, plain)
				// The server's are among them.
				b.ReportMetric(testing.AllocsPerRun(1, way.run)/benchFrames, "allocs/frame")
			})
		}
	}
}

// Write makes counter a writer that counts.
func (c *counter) Write(p []byte) (int, error) {
	c.n += len(p)
	return len(p), nil
}

// BenchmarkFrames compares decoding frames with finding their ends.
func BenchmarkFrames(b *testing.B) {
	for _, encoding := range []string{"base64", "text"} {
		stream := benchOutput(b, encoding)
		b.Run(encoding, func(b *testing.B) {
			b.SetBytes(benchFrames * benchChunk)
			b.ReportAllocs()
			for b.Loop() {
				if _, frames, err := slicer.ReadFrames(bytes.NewReader(stream)); frames != benchFrames+2 || !errors.Is(err, io.EOF) {
					b.Fatalf("ReadFrames = %d frames, %v", frames, err)
				}
			}
		})
		b.Run(encoding+"/encoding_json", func(b *testing.B) {
			line := stream[bytes.IndexByte(stream, '\n')+1:]
			line = line[:bytes.IndexByte(line, '\n')]
			b.SetBytes(benchChunk)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := slicer.DecodeAnyFrame(line); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkExecTrue compares the round trip of a command that does nothing with
// a bare request for the same answer, over a Unix socket.
func BenchmarkExecTrue(b *testing.B) {
	socket := filepath.Join(b.TempDir(), "api.sock")
	listener, err := new(net.ListenConfig).Listen(b.Context(), "unix", socket)
	if err != nil {
		b.Skip(err)
	}
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/x-ndjson")
		for _, line := range []string{`{"type":"started","timestamp":"2026-03-01T12:00:00Z","pid":1}`, `{"type":"exit","timestamp":"2026-03-01T12:00:00Z","exit_code":0}`} {
			_, _ = io.WriteString(w, line+"\n")
			_ = http.NewResponseController(w).Flush()
		}
	})}
	go func() { _ = server.Serve(listener) }()
	defer server.Close()
	client := slicer.NewSlicerClient("unix://"+socket, "", "", nil)
	defer client.CloseIdleConnections()
	plainClient := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}}
	defer plainClient.CloseIdleConnections()
	buf := make([]byte, 4<<10)
	plain := func() { rawRead(b, plainClient, "http://unix", buf) }

	b.Run("RemoteCmd", func(b *testing.B) {
		pair(b, 0, func() {
			if err := client.Command(b.Context(), "vm-1", "true").Run(); err != nil {
				b.Fatal(err)
			}
		}, plain)
	})
	b.Run("Exec", func(b *testing.B) {
		pair(b, 0, func() {
			results, err := client.Exec(b.Context(), "vm-1", slicer.SlicerExecRequest{Command: "true"})
			if err != nil {
				b.Fatal(err)
			}
			for result := range results {
				if result.ExitCode != 0 {
					b.Fatal(result.Error)
				}
			}
		}, plain)
	})
}

// BenchmarkCp compares copies of a folder with archive/tar and a bare request.
func BenchmarkCp(b *testing.B) {
	const files, size = 8, 4 << 20
	local := filepath.Join(b.TempDir(), "tree")
	if err := os.Mkdir(local, 0o755); err != nil {
		b.Fatal(err)
	}
	data := bytes.Repeat([]byte("0123456789abcdef"), size/16)
	for i := range files {
		if err := os.WriteFile(filepath.Join(local, fmt.Sprintf("file%d", i)), data, 0o644); err != nil {
			b.Fatal(err)
		}
	}
	archive := new(bytes.Buffer)
	writeTar(b, archive, local)

	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			_, _ = io.Copy(io.Discard, r.Body)
			return
		}
		w.Header().Set("Content-Type", "application/x-tar")
		_, _ = w.Write(archive.Bytes())
	}))
	defer server.Close()
	client := slicer.NewSlicerClient(server.URL, "", "", nil)
	defer client.CloseIdleConnections()

	b.Run("ToVM", func(b *testing.B) {
		pair(b, files*size, func() {
			if err := client.CpToVM(b.Context(), "vm-1", local, "/srv", 0, 0, "", "tar"); err != nil {
				b.Fatal(err)
			}
		}, func() {
			reader, writer := io.Pipe()
			go func() {
				writeTar(b, writer, local)
				writer.Close()
			}()
			resp, err := server.Client().Post(server.URL+"/vm/vm-1/cp?path=/srv&mode=tar", "application/x-tar", reader) //nolint:noctx // it ends by itself
			if err != nil {
				b.Fatal(err)
			}
			resp.Body.Close()
		})
	})
	b.Run("FromVM", func(b *testing.B) {
		dest := b.TempDir()
		pair(b, files*size, func() {
			if err := client.CpFromVM(b.Context(), "vm-1", "/srv", filepath.Join(dest, "ours"), "", "tar"); err != nil {
				b.Fatal(err)
			}
		}, func() {
			resp, err := server.Client().Get(server.URL + "/vm/vm-1/cp?path=/srv&mode=tar") //nolint:noctx // it ends by itself
			if err != nil {
				b.Fatal(err)
			}
			defer resp.Body.Close()
			readTar(b, resp.Body, filepath.Join(dest, "plain"))
		})
	})
}

// writeTar and readTar are what tar does, at its plainest.
func writeTar(tb testing.TB, w io.Writer, dir string) {
	tb.Helper()
	out := tar.NewWriter(w)
	if err := out.AddFS(os.DirFS(dir)); err != nil {
		tb.Error(err)
	}
	if err := out.Close(); err != nil {
		tb.Error(err)
	}
}

func readTar(tb testing.TB, r io.Reader, dir string) {
	tb.Helper()
	in := tar.NewReader(r)
	for {
		header, err := in.Next()
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			tb.Fatal(err)
		}
		name := filepath.Join(dir, filepath.FromSlash(header.Name))
		if header.Typeflag == tar.TypeDir {
			err = os.MkdirAll(name, 0o755)
		} else if err = os.MkdirAll(filepath.Dir(name), 0o755); err == nil {
			var file *os.File
			if file, err = os.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, fs.FileMode(header.Mode).Perm()); err == nil {
				_, err = io.Copy(file, in)
				file.Close()
			}
		}
		if err != nil {
			tb.Fatal(err)
		}
	}
}

// BenchmarkExecDaemon is BenchmarkExecTrue against the fake daemon.
func BenchmarkExecDaemon(b *testing.B) {
	srv := slicertest.NewServer(b)
	vm, err := srv.Client().CreateVM(b.Context(), "", slicer.SlicerCreateNodeRequest{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if err := srv.Client().Command(b.Context(), vm.Hostname, "true").Run(); err != nil {
			b.Fatal(err)
		}
	}
}
