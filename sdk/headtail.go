package slicer

import "fmt"

// headTailPart is how many bytes a headTail keeps of each end.
const headTailPart = 32 << 10

// headTail is a writer that keeps the beginning and the end of what is written.
type headTail struct {
	head []byte
	tail []byte // a ring once it is full
	next int    // where the ring's oldest byte is
	lost int64  // how many bytes have been dropped between the two
}

// Write implements io.Writer. It never fails.
func (h *headTail) Write(p []byte) (int, error) {
	n := len(p)
	part := min(n, headTailPart-len(h.head))
	h.head = append(h.head, p[:part]...)
	p = p[part:]
	part = min(len(p), headTailPart-len(h.tail))
	h.tail = append(h.tail, p[:part]...)
	p = p[part:]
	h.lost += int64(len(p))
	if len(p) > headTailPart {
		p = p[len(p)-headTailPart:]
	}
	for len(p) > 0 {
		part = copy(h.tail[h.next:], p)
		p = p[part:]
		h.next = (h.next + part) % headTailPart
	}
	return n, nil
}

// bytes returns what is kept.
func (h *headTail) bytes() []byte {
	all := append([]byte(nil), h.head...)
	if h.lost > 0 {
		all = fmt.Appendf(all, "\n... %d bytes are left out ...\n", h.lost)
	}
	return append(append(all, h.tail[h.next:]...), h.tail[:h.next]...)
}
