package sandbox

import (
	"strings"
	"testing"
)

func TestOtherSystemsAreToldWhatToUse(t *testing.T) {
	tests := []struct{ goos, want string }{
		{"darwin", "Slicer for Mac"},
		{"windows", "--url"},
	}
	for _, tt := range tests {
		t.Run(tt.goos, func(t *testing.T) {
			got := needsLinux(tt.goos).Error()
			if !strings.Contains(got, "needs Linux") || !strings.Contains(got, tt.want) || strings.Contains(got, "\n") {
				t.Errorf("needsLinux(%q) = %q, want one line with %q", tt.goos, got, tt.want)
			}
		})
	}
}
