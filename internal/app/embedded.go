package app

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"path/filepath"
)

// startEmbedded starts the daemon of --embedded, on a Unix socket that only
// this user can open, and returns how to reach it and a function that ends it.
func (o options) startEmbedded(ctx context.Context, p Process, log *slog.Logger) (endpoint, func() error, error) {
	dir, err := p.dir()
	if err != nil {
		return endpoint{}, nil, err
	}
	groups, err := o.groups.load(dir)
	if err != nil {
		return endpoint{}, nil, err
	}
	s, err := startService(ctx, serviceConfig{
		stateDir: o.stateDir,
		groups:   groups,
		network:  o.network,
		image:    hostImage(p),
		log:      log,
		listen: func(ctx context.Context, _, runDir string) (net.Listener, error) {
			return listenPrivate(ctx, filepath.Join(runDir, "api.sock"))
		},
	})
	if err != nil {
		return endpoint{}, nil, fmt.Errorf("--embedded: %w", err)
	}
	socket := s.address.String()
	log.Info("embedded daemon started", "socket", socket, "network", o.network)
	return endpoint{url: socket, how: "--embedded"}, s.close, nil
}
