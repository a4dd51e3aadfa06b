package app

import (
	"encoding/json"
	"net"
	"net/http"
)

// guardHost keeps web pages away from a daemon that asks for no token on a TCP
// port of this machine. The daemon itself refuses the pages of other sites,
// but a page may point its own site's name at this machine; so the caller must
// have called it by an address of this machine's own.
func guardHost(next http.Handler, at net.Addr, token string) http.Handler {
	if token != "" || at.Network() == "unix" {
		return next
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host := r.Host
		if name, _, err := net.SplitHostPort(host); err == nil {
			host = name
		}
		if len(host) > 2 && host[0] == '[' && host[len(host)-1] == ']' {
			host = host[1 : len(host)-1]
		}
		if !isLoopbackHost(host) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusForbidden)
			_ = json.NewEncoder(w).Encode(map[string]string{ // a client that has gone needs no answer
				"error": "call this daemon as localhost or 127.0.0.1, or start it with --token-file",
			})
			return
		}
		next.ServeHTTP(w, r)
	})
}
