// Package slicer is a client for the REST API of a Slicer daemon, which runs
// microVMs: it creates them, runs commands in them, copies files to and from
// them and looks after their secrets.
//
// A [SlicerClient] is made by [NewSlicerClient] from a URL or the path of a
// Unix socket, or by [NewClientFromEnv] from the environment. It is safe for
// concurrent use. Every call takes a context that ends it.
//
// # Errors
//
// A refusal by the daemon is an [*APIError]; [IsAPIStatus] asks for a status. A
// call whose context ended returns an error that wraps the context's. No
// error's text holds the token, a secret or an environment value. Where a file of
// a VM is missing, is there already or may not be used, errors.Is finds
// [io/fs.ErrNotExist], [io/fs.ErrExist] or [io/fs.ErrPermission].
//
// # Users
//
// Where a call takes a uid and a gid, 0 is root and [NonRootUser] leaves the
// choice to the VM's agent, which picks its ordinary user (ubuntu, 1000). The
// two are independent of each other: to run as the ordinary user set both to
// NonRootUser.
package slicer
