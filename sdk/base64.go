package slicer

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"slices"
)

// notBase64 marks characters that are not of the alphabet; it is more than 24
// bits can hold.
const notBase64 = 1 << 24

// base64Values has for each of the four places of a quantum what a character
// contributes to its 24 bits. It is only read.
var base64Values = makeBase64Values()

func makeBase64Values() *[4][256]uint32 {
	const alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
	values := new([4][256]uint32)
	for place := range values {
		for char := range values[place] {
			values[place][char] = notBase64
		}
		for value := range len(alphabet) {
			values[place][alphabet[value]] = uint32(value) << (18 - 6*place)
		}
	}
	return values
}

// appendBase64 appends what src, in the standard encoding with padding, stands
// for. It does what base64.StdEncoding does at twice the speed, and it takes no
// line ends. On failure what dst is extended by is undefined.
func appendBase64(dst, src []byte) ([]byte, bool) {
	at := len(dst)
	// A step writes 8 bytes, 2 of which the next one overwrites.
	dst = slices.Grow(dst, base64.StdEncoding.DecodedLen(len(src))+8)
	out, rest, values := dst[:cap(dst)], src, base64Values
	for len(rest) >= 8 && len(out)-at >= 8 {
		chars := binary.LittleEndian.Uint64(rest)
		a := values[0][byte(chars)] | values[1][byte(chars>>8)] | values[2][byte(chars>>16)] | values[3][byte(chars>>24)]
		b := values[0][byte(chars>>32)] | values[1][byte(chars>>40)] | values[2][byte(chars>>48)] | values[3][byte(chars>>56)]
		if a|b >= notBase64 {
			break // padding, or worse
		}
		binary.BigEndian.PutUint64(out[at:], uint64(a)<<40|uint64(b)<<16)
		at += 6
		rest = rest[8:]
	}
	if bytes.IndexByte(rest, '\r') >= 0 || bytes.IndexByte(rest, '\n') >= 0 {
		return dst, false
	}
	dst, err := base64.StdEncoding.AppendDecode(out[:at], rest)
	return dst, err == nil
}
