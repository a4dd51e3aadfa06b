// Package forward connects to TCP ports and Unix sockets inside a VM, through
// the VM's daemon (GET /vm/{vm}/forward, a WebSocket for each connection).
//
// [DialContext] makes one connection. [Start] listens on this machine, by
// default on the loopback interface alone, and hands each connection on to an
// address in the VM, as [ParseSpec] reads it: 8080:80, or
// 8080:/var/run/docker.sock. [Serve] does so for a listener of the caller's.
//
// # Half-closed connections
//
// A WebSocket is closed in both directions at once, so the end of one direction
// can't be handed on alone:
//
//   - When the program on this side ends its sending, what it has sent arrives,
//     but the program in the VM sees no end yet. Its answers are handed on for as
//     long as they keep coming; after a pause of [Options].Linger the connection
//     is closed, and the program in the VM then sees the end. One that says
//     nothing until its input ends can't answer any more.
//   - When the program in the VM ends its sending, or closes, the program on
//     this side sees the end after the last byte, and what it sends afterwards
//     is dropped.
//
// A connection of DialContext is not a *net.TCPConn: it has no CloseWrite.
package forward
