package model

import (
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"sync"
	"time"
)

// defaulter is a type whose zero value is not its default. The decoder fills every new element of a list or map, and
// everything behind a pointer, before it reads what is written; the rest stands in its parent's defaults.
type defaulter interface{ setDefaults() }

// decoder reads nodes into the documents' types: strictly, over defaults, by the names of the json tags. It reports all
// problems with their paths, and goes on after each.
//
// null is refused everywhere. To read it as "absent" would be kinder to writers of JSON, but `instances:` with nothing
// below it would then withdraw every instance, and `callers:` below a match would match everybody.
type decoder struct {
	report *report
	// unknown takes the fields that no type has: the report as well where they are errors, another where they are
	// warnings.
	unknown *report
	path    []byte // of the value being read; a stack that grows and shrinks at its end, so that it costs no memory
}

var (
	durationType = reflect.TypeFor[Duration]()
	addressType  = reflect.TypeFor[netip.AddrPort]()
	momentType   = reflect.TypeFor[time.Time]()
)

// fail reports a problem of the value being read.
func (d *decoder) fail(line int, format string, args ...any) {
	d.report.add(line, string(d.path), format, args...)
}

// value reads n into out, which can be set and holds its default.
func (d *decoder) value(n *node, line int, out reflect.Value) {
	if n.shape == null {
		d.fail(line, "is null: give it a value, or leave it out")
		return
	}
	switch out.Type() {
	case durationType:
		d.duration(n, line, out)
		return
	case addressType:
		d.address(n, line, out)
		return
	case momentType:
		d.moment(n, line, out)
		return
	}
	switch out.Kind() {
	case reflect.Pointer:
		fresh := newValue(out.Type().Elem())
		d.value(n, line, fresh)
		out.Set(fresh.Addr())
	case reflect.Struct:
		d.structure(n, line, out)
	case reflect.Map:
		d.table(n, line, out)
	case reflect.Slice:
		d.list(n, line, out)
	default:
		d.scalar(n, line, out)
	}
}

// newValue returns a new value of a type, with its defaults.
func newValue(t reflect.Type) reflect.Value {
	fresh := reflect.New(t)
	if d, ok := fresh.Interface().(defaulter); ok {
		d.setDefaults()
	}
	return fresh.Elem()
}

// enter grows the path by a key, and returns what to cut it back to.
func (d *decoder) enter(key string) (mark int) {
	mark = len(d.path)
	d.path = appendPath(d.path, key)
	return mark
}

// member reads the value of a key.
func (d *decoder) member(m *member, out reflect.Value) {
	mark := d.enter(m.key)
	d.value(&m.value, m.line, out)
	d.path = d.path[:mark]
}

// structure reads a mapping into a struct.
func (d *decoder) structure(n *node, line int, out reflect.Value) {
	if n.shape != mapping {
		d.fail(line, "%v is not a mapping", n)
		return
	}
	fields := fieldsOf(out.Type())
	seen := make([]int, len(fields)) // the line that gave each field
	for i := range n.members {
		m := &n.members[i]
		index := fieldIndex(fields, m.key)
		switch {
		case index < 0:
			d.unknownField(m, fields)
		case seen[index] > 0:
			d.duplicate(m, seen[index])
		default:
			seen[index] = m.line
			d.member(m, out.Field(index))
		}
	}
}

// table reads a mapping into a map.
func (d *decoder) table(n *node, line int, out reflect.Value) {
	if n.shape != mapping {
		d.fail(line, "%v is not a mapping", n)
		return
	}
	t := out.Type()
	out.Set(reflect.MakeMapWithSize(t, len(n.members)))
	var first map[string]int
	for i := range n.members {
		m := &n.members[i]
		if first[m.key] > 0 {
			d.duplicate(m, first[m.key])
			continue
		}
		if first == nil {
			first = make(map[string]int, len(n.members))
		}
		first[m.key] = m.line
		element := newValue(t.Elem())
		d.member(m, element)
		out.SetMapIndex(reflect.ValueOf(m.key), element)
	}
}

// list reads a list into a slice. It replaces the default rather than adding to it.
func (d *decoder) list(n *node, line int, out reflect.Value) {
	if n.shape != list {
		d.fail(line, "%v is not a list", n)
		return
	}
	t := out.Type()
	out.Set(reflect.MakeSlice(t, len(n.items), len(n.items)))
	mark := len(d.path)
	for i := range n.items {
		d.path = append(strconv.AppendInt(append(d.path, '['), int64(i), 10), ']')
		element := out.Index(i)
		if fresh, ok := element.Addr().Interface().(defaulter); ok {
			fresh.setDefaults()
		}
		d.value(&n.items[i], n.items[i].line, element)
		d.path = d.path[:mark]
	}
}

// scalar reads a text, number or boolean. None is made of another: a version 1.10 must not become 1.1, nor no a boolean.
func (d *decoder) scalar(n *node, line int, out reflect.Value) {
	switch kind := out.Kind(); {
	case kind == reflect.String && n.shape == text:
		out.SetString(n.text)
	case kind == reflect.String && (n.shape == number || n.shape == boolean):
		d.fail(line, "%v is not a text: put it in quotes", n)
	case kind == reflect.String:
		d.fail(line, "%v is not a text", n)
	case kind == reflect.Bool && n.shape == boolean:
		out.SetBool(n.text == "true")
	case kind == reflect.Bool:
		d.fail(line, "%v is not true or false", n)
	case n.shape != number:
		d.fail(line, "%v is not a number", n)
	case kind == reflect.Float64:
		d.float(n, line, out)
	default:
		d.integer(n, line, out)
	}
}

// float reads a number. A JSON number can be neither NaN nor infinite, but too large.
func (d *decoder) float(n *node, line int, out reflect.Value) {
	value, err := strconv.ParseFloat(n.text, 64)
	if err != nil {
		d.fail(line, "%v is too large", n)
		return
	}
	out.SetFloat(value + 0) // -0 becomes 0
}

// integer reads a whole number.
func (d *decoder) integer(n *node, line int, out reflect.Value) {
	value, err := strconv.Atoi(n.text)
	switch {
	case err == nil:
		out.SetInt(int64(value))
	case strings.ContainsAny(n.text, ".eE"):
		d.fail(line, "%v is not a whole number", n)
	default:
		d.fail(line, "%v is too large", n)
	}
}

// duration reads a length of time. A bare number is refused, since people would read it as seconds, and Go as nanoseconds.
func (d *decoder) duration(n *node, line int, out reflect.Value) {
	parsed, err := time.ParseDuration(n.text)
	if n.shape != text || err != nil {
		d.fail(line, "%v is not a duration such as 300ms, 5s or 10m", n)
		return
	}
	out.SetInt(int64(parsed))
}

// address reads the address of an instance.
func (d *decoder) address(n *node, line int, out reflect.Value) {
	if n.shape != text {
		d.fail(line, "%v is not a text", n)
		return
	}
	parsed, err := parseAddress(n.text)
	if err != nil {
		d.fail(line, "%v", err)
		return
	}
	out.Set(reflect.ValueOf(parsed))
}

// duplicate reports a key given twice.
func (d *decoder) duplicate(m *member, first int) {
	mark := d.enter(m.key)
	d.fail(m.line, "given twice, first on line %d", first)
	d.path = d.path[:mark]
}

// unknownField reports a field that the type doesn't have.
func (d *decoder) unknownField(m *member, fields []string) {
	hint := ""
	if near := nearest(m.key, fields); near != "" {
		hint = ", did you mean " + quote(near) + "?"
	}
	mark := d.enter(m.key)
	d.unknown.add(m.line, string(d.path), "unknown field%s", hint)
	d.path = d.path[:mark]
}

// fieldTable holds the fields' names of each type that was decoded, by their index; the types are few and fixed.
var fieldTable sync.Map // reflect.Type → []string

// fieldsOf returns the names of a struct's fields.
func fieldsOf(t reflect.Type) []string {
	if names, ok := fieldTable.Load(t); ok {
		return names.([]string)
	}
	names := make([]string, t.NumField())
	for i := range names {
		names[i], _, _ = strings.Cut(t.Field(i).Tag.Get("json"), ",")
	}
	fieldTable.Store(t, names)
	return names
}

// fieldIndex returns the index of a name, -1 if there is none. There are never more than 20: no map is faster.
func fieldIndex(names []string, name string) int {
	for i := range names {
		if names[i] == name {
			return i
		}
	}
	return -1
}

// nearest returns the name that word is most likely a slip of, "" if none is within two letters.
func nearest(word string, names []string) string {
	best, found := 3, ""
	if len(word) > 64 {
		return ""
	}
	for _, name := range names {
		if distance := editDistance(word, name); distance < best && distance < len(name)/2+1 {
			best, found = distance, name
		}
	}
	return found
}

// editDistance is Levenshtein's: how many letters must be added, dropped or changed to make b of a.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j]+1, row[j+1]+1)
		}
	}
	return row[len(b)]
}
