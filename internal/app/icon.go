package app

import (
	_ "embed" // the icon
	"encoding/base64"
	"strings"

	"github.com/mark3labs/mcp-go/mcp"
)

//go:embed icon.svg
var iconSVG string

// icon is the server's icon. It travels with every initialize, so it is small and
// needs no other request.
func icon() mcp.Icon {
	return mcp.Icon{
		Src:      "data:image/svg+xml;base64," + base64.StdEncoding.EncodeToString([]byte(strings.TrimSpace(iconSVG))),
		MIMEType: "image/svg+xml",
		Sizes:    []string{"any"},
	}
}
