package model

import (
	"bytes"
	"encoding/json"
	"strconv"
	"strings"
)

// shape is what a node is; JSON's six, since YAML is only another way to write them here.
type shape uint8

const (
	null shape = iota
	boolean
	number
	text
	list
	mapping
)

// node is one value of a document, as the YAML and the JSON reader both give it to the decoder. Numbers stay text, so
// that nothing is rounded before it is known what the field wants; the members of a mapping keep their order.
type node struct {
	shape   shape
	line    int
	text    string // of a text its content; of null, boolean and number what JSON writes for it
	items   []node
	members []member
}

// member is one key of a mapping. Keys may repeat: the decoder refuses that, as it can name the path.
type member struct {
	key   string
	line  int
	value node
}

// limits that keep a hostile or broken input from taking the process's memory or stack.
const (
	maxDepth = 32       // levels; the deepest field of a Service is at 8
	maxFile  = 32 << 20 // bytes; 200,000 instances are about 20 MiB
	maxValue = 1 << 20  // bytes of a Service or Topology; etcd refuses requests over 1.5 MiB
)

// String says what n is, for an error.
func (n *node) String() string {
	switch n.shape {
	case mapping:
		return "a mapping"
	case list:
		return "a list"
	case text:
		return quote(n.text)
	}
	if len(n.text) > maxQuoted {
		return n.text[:maxQuoted] + "…"
	}
	return n.text
}

// member returns the first member of that key, nil if there is none.
func (n *node) member(key string) *member {
	for i := range n.members {
		if n.members[i].key == key {
			return &n.members[i]
		}
	}
	return nil
}

// locate returns the line of what path names, or else of the deepest part of it that is there, and whether all of it is.
// line is n's own. Walking the tree again costs nothing while documents are right, where noting every path would.
func (n *node) locate(path string, line int) (int, bool) {
	if path == "" {
		return line, true
	}
	key, index, rest := cutPath(path)
	if index >= 0 && index < len(n.items) {
		return n.items[index].locate(rest, n.items[index].line)
	}
	if m := n.member(key); m != nil && index < 0 {
		return m.value.locate(rest, m.line)
	}
	return line, false
}

// appendPath adds a key to a path: as it is if it is a word, otherwise as ["key"], so that a key with a dot in it can't be
// taken for two.
func appendPath(path []byte, key string) []byte {
	word := key != ""
	for i := 0; i < len(key) && word; i++ {
		c := key[i]
		word = 'a' <= c|0x20 && c|0x20 <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_'
	}
	switch {
	case !word:
		return append(strconv.AppendQuote(append(path, '['), key), ']')
	case len(path) > 0:
		path = append(path, '.')
	}
	return append(path, key...)
}

// cutPath splits the first key, or the first index, off a path that appendPath made. index is -1 for a key.
func cutPath(path string) (key string, index int, rest string) {
	path = strings.TrimPrefix(path, ".")
	if path[0] != '[' {
		end := strings.IndexAny(path, ".[")
		if end < 0 {
			end = len(path)
		}
		return path[:end], -1, path[end:]
	}
	if quoted, err := strconv.QuotedPrefix(path[1:]); err == nil {
		key, _ = strconv.Unquote(quoted)
		return key, -1, path[len(quoted)+2:]
	}
	digits, rest, _ := strings.Cut(path[1:], "]")
	index, _ = strconv.Atoi(digits)
	return "", index, rest
}

// appendJSON writes n as compact JSON, keys in the order of the document.
func (n *node) appendJSON(b *bytes.Buffer) {
	switch n.shape {
	case mapping:
		b.WriteByte('{')
		for i := range n.members {
			if i > 0 {
				b.WriteByte(',')
			}
			appendQuoted(b, n.members[i].key)
			b.WriteByte(':')
			n.members[i].value.appendJSON(b)
		}
		b.WriteByte('}')
	case list:
		b.WriteByte('[')
		for i := range n.items {
			if i > 0 {
				b.WriteByte(',')
			}
			n.items[i].appendJSON(b)
		}
		b.WriteByte(']')
	case text:
		appendQuoted(b, n.text)
	default:
		b.WriteString(n.text)
	}
}

// appendQuoted writes a JSON string, with <, > and & as they are: people read these values with etcdctl.
func appendQuoted(b *bytes.Buffer, s string) {
	encoder := json.NewEncoder(b)
	encoder.SetEscapeHTML(false)
	_ = encoder.Encode(s)   // neither a string nor a Buffer can fail
	b.Truncate(b.Len() - 1) // the newline that Encode ends with
}
