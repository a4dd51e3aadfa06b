// Package slicertest is a Slicer daemon for tests. NewServer starts one that
// speaks the real API, with guests that are scripted: a VM is a file tree in
// memory, and its programs are Go functions. No process is started and no
// file of the machine is touched, so it works on every platform, and over
// the Pipe network also inside a testing/synctest bubble.
//
//	func TestBuild(t *testing.T) {
//		srv := slicertest.NewServer(t, slicertest.Options{
//			Programs: map[string]slicertest.Program{
//				"make": func(ctx context.Context, p *slicertest.Proc) int {
//					fmt.Fprintln(p.Stdout, "built")
//					return 0
//				},
//			},
//		})
//		client := srv.Client()
//		// … CreateVM, CpToVM, Exec …
//	}
//
// What can go wrong on the way is planned with Server.Fault: a status, a delay,
// an answer that stalls or is cut, and frames of an exec that are split,
// merged, malformed, too long or out of order. A service inside a VM, which a
// forward dials, is played with Server.Listen or Proc.Listen; a program of a
// shell session has a Terminal.
//
// The disks of persistent VMs, and the commits that are made of them, are kept
// in memory as long as the server lives; Server.Restart shows what is left of
// them when the daemon ends.
package slicertest
