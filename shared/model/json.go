package model

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"
)

// readJSON reads one JSON value that begins on a line of its file. It is apart from YAML because JSON isn't wholly a part of
// that: YAML readers refuse its surrogate pairs and its tabs. The grammar is RFC 8259's, and what that leaves open is
// refused: bytes that are not UTF-8 and halves of surrogate pairs, which encoding/json would replace in silence.
func readJSON(data []byte, line int) (*node, error) {
	if at := invalidUTF8(data); at >= 0 {
		return nil, &syntaxError{line + newlines(data[:at]), "not UTF-8"}
	}
	if err := validJSON(data, line); err != nil {
		return nil, err
	}
	if at := loneSurrogate(data); at >= 0 {
		return nil, &syntaxError{line + newlines(data[:at]), "half of a surrogate pair in a text"}
	}
	tokens := &jsonTokens{decoder: json.NewDecoder(bytes.NewReader(data)), data: data, line: line}
	tokens.decoder.UseNumber()
	root, err := tokens.value(0)
	if err != nil {
		return nil, err
	}
	return &root, nil
}

// syntaxError is a fault of the text itself, found before there is a document to name.
type syntaxError struct {
	line    int
	message string
}

func (e *syntaxError) Error() string { return e.message }

// validJSON checks that data, which begins on a line, is exactly one JSON value.
func validJSON(data []byte, line int) error {
	var raw json.RawMessage
	err := json.Unmarshal(data, &raw)
	if err == nil {
		return nil
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at := min(max(syntax.Offset-1, 0), int64(len(data)))
		line += newlines(data[:at])
	}
	return &syntaxError{line, "not JSON: " + err.Error()}
}

// readJSONFile reads the JSON documents of a file, one after the other. It returns what it could read before an error.
func readJSONFile(data []byte) (roots []*node, err error) {
	decoder := json.NewDecoder(bytes.NewReader(data))
	line, counted := 1, 0
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err == io.EOF {
			return roots, nil
		} else if err != nil {
			return roots, cmp.Or(validJSON(data[counted:], line), err)
		}
		end := int(decoder.InputOffset())
		start := end - len(raw)
		line += newlines(data[counted:start])
		root, err := readJSON(raw, line)
		if err != nil {
			return roots, err
		}
		roots = append(roots, root)
		line += newlines(raw)
		counted = end
	}
}

// jsonTokens turns the tokens of a valid JSON value into nodes.
type jsonTokens struct {
	decoder *json.Decoder
	data    []byte
	line    int // of the last token
	counted int // bytes whose newlines are in line
}

// next returns the next token. No token spans lines, so that its end tells its line.
func (t *jsonTokens) next() (json.Token, error) {
	token, err := t.decoder.Token()
	if err != nil {
		return nil, &syntaxError{t.line, "not JSON: " + err.Error()}
	}
	end := int(t.decoder.InputOffset())
	t.line += newlines(t.data[t.counted:end])
	t.counted = end
	return token, nil
}

// value reads one value at a depth of nesting.
func (t *jsonTokens) value(depth int) (node, error) {
	token, err := t.next()
	if err != nil {
		return node{}, err
	}
	n := node{line: t.line}
	switch token := token.(type) {
	case json.Delim:
		if depth == maxDepth {
			return n, errDepth(t.line)
		}
		if token == '{' {
			n.shape = mapping
			n.members, err = t.members(depth + 1)
		} else {
			n.shape = list
			n.items, err = t.items(depth + 1)
		}
	case string:
		n.shape, n.text = text, token
	case json.Number:
		n.shape, n.text = number, string(token)
	case bool:
		n.shape, n.text = boolean, "false"
		if token {
			n.text = "true"
		}
	default:
		n.shape, n.text = null, "null"
	}
	return n, err
}

// members reads the rest of an object.
func (t *jsonTokens) members(depth int) ([]member, error) {
	var members []member
	for t.decoder.More() {
		key, err := t.next()
		if err != nil {
			return nil, err
		}
		m := member{line: t.line}
		m.key, _ = key.(string)
		if m.value, err = t.value(depth); err != nil {
			return nil, err
		}
		members = append(members, m)
	}
	_, err := t.next()
	return members, err
}

// items reads the rest of an array.
func (t *jsonTokens) items(depth int) ([]node, error) {
	var items []node
	for t.decoder.More() {
		item, err := t.value(depth)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	_, err := t.next()
	return items, err
}

// errDepth refuses what is nested too deeply.
func errDepth(line int) error {
	return &syntaxError{line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
}

// invalidUTF8 returns the offset of the first byte that is not UTF-8, -1 if there is none.
func invalidUTF8(data []byte) int {
	if utf8.Valid(data) {
		return -1
	}
	at := 0
	for {
		r, size := utf8.DecodeRune(data[at:])
		if r == utf8.RuneError && size == 1 {
			return at
		}
		at += size
	}
}

// loneSurrogate returns the offset of the first \u escape that is half of a surrogate pair without its other half, -1
// if there is none. data is valid JSON.
func loneSurrogate(data []byte) int {
	for at := 0; at < len(data); at++ {
		if data[at] != '\\' {
			continue
		}
		switch surrogate(data[at:]) {
		case 0:
			at++ // whatever is escaped, a backslash or a quote maybe
		case 'h':
			if surrogate(data[at+6:]) != 'l' {
				return at
			}
			at += 11
		case 'l':
			return at
		}
	}
	return -1
}

// surrogate tells whether data begins with a \u escape of the high ('h') or low ('l') half of a pair, or 0.
func surrogate(data []byte) byte {
	if len(data) < 6 || data[0] != '\\' || data[1] != 'u' || data[2]|0x20 != 'd' {
		return 0
	}
	switch c := data[3] | 0x20; {
	case c == '8'|0x20 || c == '9'|0x20 || c == 'a' || c == 'b':
		return 'h'
	case c >= 'c' && c <= 'f':
		return 'l'
	}
	return 0
}

// newlines returns how many lines end in data.
func newlines(data []byte) int { return bytes.Count(data, []byte{'\n'}) }
