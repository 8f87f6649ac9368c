package route

import (
	"strings"

	"github.com/cespare/xxhash/v2"
)

// unescape returns the byte that s, which is not empty, begins with, and how many bytes of s stand for it: three if it is
// percent-encoded. A % that no two hexadecimal digits follow stands for itself, as in the WHATWG's URL Standard: a
// request that is a little wrong keeps its key.
func unescape(s string) (c byte, size int) {
	if s[0] == '%' && len(s) > 2 && unhex[s[1]] < 16 && unhex[s[2]] < 16 {
		return unhex[s[1]]<<4 | unhex[s[2]], 3
	}
	return s[0], 1
}

// unhex holds the values of the hexadecimal digits, and 16 for every other byte.
var unhex = func() (table [256]byte) {
	for c := range table {
		table[c] = 16
	}
	for value := range byte(16) {
		table["0123456789abcdef"[value]] = value
		table["0123456789ABCDEF"[value]] = value
	}
	return table
}()

// unescapeForm is unescape for application/x-www-form-urlencoded, where + is a space.
func unescapeForm(s string) (c byte, size int) {
	if s[0] == '+' {
		return ' ', 1
	}
	return unescape(s)
}

// equalForm tells whether s, form-encoded, stands for want.
func equalForm(s, want string) bool {
	for i := range len(want) {
		if s == "" {
			return false
		}
		c, size := unescapeForm(s)
		if c != want[i] {
			return false
		}
		s = s[size:]
	}
	return s == ""
}

// hashPath hashes what s, percent-encoded, stands for.
func hashPath(s string) uint64 {
	if strings.IndexByte(s, '%') < 0 {
		return xxhash.Sum64String(s)
	}
	return hashDecoded(s, unescape)
}

// hashForm hashes what s, form-encoded, stands for.
func hashForm(s string) uint64 {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return xxhash.Sum64String(s)
	}
	return hashDecoded(s, unescapeForm)
}

// hashDecoded hashes piece by piece, so that the decoded text never has to be made.
func hashDecoded(s string, next func(string) (byte, int)) uint64 {
	var digest xxhash.Digest
	digest.Reset()
	var piece [64]byte
	filled := 0
	for s != "" {
		c, size := next(s)
		piece[filled] = c
		filled++
		s = s[size:]
		if filled == len(piece) {
			_, _ = digest.Write(piece[:]) // never fails
			filled = 0
		}
	}
	_, _ = digest.Write(piece[:filled])
	return digest.Sum64()
}
