package model

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxAliased is how much aliases may add to a file, in bytes of text, with 16 for each value. Nested aliases double with
// every line (a "billion laughs"), and one that lies within its own anchor has no end at all.
const maxAliased = 4 << 20

// readYAML reads the documents of a YAML file, leaving empty ones out. It returns what it could read before an error.
//
// Scalars are read by a core of YAML 1.2 that can't surprise: plain true and false are booleans, null and ~ are null,
// what JSON calls a number is a number, and all else is text as it is written. So on, yes and y are text, and so are
// 0o17, 017, 0x1f, 1_000, 1:30 and .inf, which YAML 1.1, YAML 1.2 and people read differently: a field that wants a number
// refuses them. Keys are always text.
func readYAML(data []byte) (roots []*node, err error) {
	for _, separator := range []string{"\u0085", "\u2028", "\u2029"} {
		if at := bytes.Index(data, []byte(separator)); at >= 0 {
			// Ends of lines to YAML 1.1 and to the library, ordinary characters to YAML 1.2.
			return nil, &syntaxError{1 + newlines(data[:at]), fmt.Sprintf("the character %U must be written as an escape", []rune(separator)[0])}
		}
	}
	if bytes.HasPrefix(data, []byte("%YAML 1.2")) {
		data = append([]byte{'#'}, data[1:]...) // the library refuses the version, though it reads what we need of it
	}
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	reader := &yamlReader{}
	for {
		var document yaml.Node
		if err := decoder.Decode(&document); errors.Is(err, io.EOF) {
			return roots, nil
		} else if err != nil {
			return roots, yamlError(data, err)
		}
		if len(document.Content) == 0 || isEmpty(document.Content[0]) {
			continue
		}
		root, err := reader.convert(document.Content[0], 0)
		if err != nil {
			return roots, err
		}
		roots = append(roots, &root)
	}
}

// isEmpty tells whether there is nothing between two document markers.
func isEmpty(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Style == 0 && n.Value == "" && n.Anchor == ""
}

// yamlReader turns the nodes of the YAML library into the decoder's.
type yamlReader struct {
	aliases int // around the node being converted
	aliased int // what came out of aliases so far, as maxAliased counts it
}

// spend counts a value or key, and refuses it when aliases have added too much.
func (y *yamlReader) spend(in *yaml.Node) error {
	if y.aliases > 0 {
		y.aliased += 16 + len(in.Value)
	}
	if y.aliased > maxAliased {
		return &syntaxError{in.Line, fmt.Sprintf("aliases add more than %d bytes", maxAliased)}
	}
	return nil
}

// convert converts one node at a depth of nesting.
func (y *yamlReader) convert(in *yaml.Node, depth int) (node, error) {
	out := node{line: in.Line}
	if err := y.spend(in); err != nil {
		return out, err
	}
	if in.Style&yaml.TaggedStyle != 0 {
		return out, &syntaxError{in.Line, "the tag " + quote(in.Tag) + " isn't supported: a value's type follows from its field"}
	}
	if depth == maxDepth && in.Kind != yaml.ScalarNode {
		return out, errDepth(in.Line)
	}
	var err error
	switch in.Kind {
	case yaml.MappingNode:
		out.shape = mapping
		out.members, err = y.members(in, depth+1)
	case yaml.SequenceNode:
		out.shape = list
		out.items = make([]node, len(in.Content))
		for i := 0; i < len(in.Content) && err == nil; i++ {
			out.items[i], err = y.convert(in.Content[i], depth+1)
		}
	case yaml.AliasNode:
		y.aliases++
		out, err = y.convert(in.Alias, depth+1)
		y.aliases--
	default:
		out.shape, out.text = scalar(in)
	}
	return out, err
}

// members converts the keys and values of a mapping.
func (y *yamlReader) members(in *yaml.Node, depth int) ([]member, error) {
	members := make([]member, 0, len(in.Content)/2)
	for i := 0; i+1 < len(in.Content); i += 2 {
		key := in.Content[i]
		switch {
		case key.Kind != yaml.ScalarNode:
			return nil, &syntaxError{key.Line, "a key must be a text, no mapping, list or alias"}
		case key.Style&yaml.TaggedStyle != 0:
			return nil, &syntaxError{key.Line, "the tag " + quote(key.Tag) + " isn't supported: keys are always text"}
		case key.Value == "<<" && key.Style == 0:
			return nil, &syntaxError{key.Line, "merge keys (<<) aren't supported: use an alias for a whole value"}
		}
		if err := y.spend(key); err != nil {
			return nil, err
		}
		value, err := y.convert(in.Content[i+1], depth)
		if err != nil {
			return nil, err
		}
		members = append(members, member{key: key.Value, line: key.Line, value: value})
	}
	return members, nil
}

// scalar resolves what a scalar is. Whatever is quoted, or is a block, is text.
func scalar(in *yaml.Node) (shape, string) {
	if in.Style != 0 {
		return text, in.Value
	}
	switch in.Value {
	case "", "~", "null", "Null", "NULL":
		return null, "null"
	case "true", "false":
		return boolean, in.Value
	}
	if c := in.Value[0]; (c == '-' || '0' <= c && c <= '9') && json.Valid([]byte(in.Value)) {
		return number, in.Value
	}
	return text, in.Value
}

// yamlError gives an error of the YAML library a line. The library only writes it into the text, leaves it out for the
// first, and has none for an unknown anchor, which most often is a glob without quotes.
func yamlError(data []byte, err error) error {
	message, line := strings.TrimPrefix(err.Error(), "yaml: "), 1
	if rest, ok := strings.CutPrefix(message, "line "); ok {
		if digits, rest, ok := strings.Cut(rest, ": "); ok {
			if parsed, err := strconv.Atoi(digits); err == nil {
				message, line = rest, parsed
			}
		}
	}
	const hint = " (a text that begins with * or & must be in quotes)"
	if rest, ok := strings.CutPrefix(message, "unknown anchor '"); ok {
		anchor, _, _ := strings.Cut(rest, "'")
		line += newlines(data[:max(bytes.Index(data, []byte("*"+anchor)), 0)])
		message += hint
	} else if strings.Contains(message, "expected alphabetic or numeric") {
		message += hint
	}
	return &syntaxError{line, "not YAML: " + message}
}

// readNodes reads the documents of a file, whichever its language is. One that begins with { and is JSON throughout is
// read as JSON; a name that ends in .json allows nothing else.
func readNodes(file string, data []byte) ([]*node, error) {
	if len(data) > maxFile {
		return nil, fmt.Errorf("%d bytes, over the limit of %d", len(data), maxFile)
	}
	if at := invalidUTF8(data); at >= 0 {
		return nil, &syntaxError{1 + newlines(data[:at]), "not UTF-8"}
	}
	data = bytes.TrimPrefix(data, []byte("\ufeff"))
	if strings.HasSuffix(file, ".json") {
		return readJSONFile(data)
	}
	if bytes.HasPrefix(bytes.TrimLeft(data, " \t\r\n"), []byte("{")) && isJSON(data) {
		return readJSONFile(data)
	}
	return readYAML(data)
}

// isJSON tells whether data is nothing but JSON values, one after the other.
func isJSON(data []byte) bool {
	decoder := json.NewDecoder(bytes.NewReader(data))
	for {
		var raw json.RawMessage
		if err := decoder.Decode(&raw); err != nil {
			return errors.Is(err, io.EOF)
		}
	}
}
