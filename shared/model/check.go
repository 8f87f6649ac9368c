package model

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// checker validates what was decoded, and reports at the path and line of the fault. It stands for one place in the
// document; a path is relative to it.
type checker struct {
	root   *node
	report *report
	base   string
}

// fail reports a problem at a path.
func (c checker) fail(path, format string, args ...any) {
	if c.report.full() {
		return // looking for the line of every fault would take for ever if there are thousands
	}
	full := c.under(path).base
	line, _ := c.root.locate(full, c.root.line)
	c.report.add(line, full, format, args...)
}

// missing is the fault of a field without a default that isn't given.
const missing = "is missing"

// given tells whether the document itself holds a path.
func (c checker) given(path string) bool {
	_, given := c.root.locate(c.under(path).base, 0)
	return given
}

// under returns the checker of a path.
func (c checker) under(path string) checker {
	switch {
	case c.base == "":
		c.base = path
	case path != "":
		c.base += "." + path
	}
	return c
}

// entry returns the checker of one key of a mapping that isn't a struct.
func (c checker) entry(path, key string) checker {
	c = c.under(path)
	c.base = string(appendPath([]byte(c.base), key))
	return c
}

// element returns the checker of one element of a list.
func (c checker) element(path string, index int) checker {
	c = c.under(path)
	c.base += "[" + strconv.Itoa(index) + "]"
	return c
}

// must reports err, if there is one.
func (c checker) must(path string, err error) {
	if err != nil {
		c.fail(path, "%v", err)
	}
}

// optional checks a text that may be empty.
func (c checker) optional(path, value string, rule func(string) error) {
	if value != "" {
		c.must(path, rule(value))
	}
}

// each checks all of a list of texts.
func (c checker) each(path string, values []string, rule func(string) error) {
	for i, value := range values {
		if err := rule(value); err != nil {
			c.element(path, i).fail("", "%v", err)
		}
	}
}

// unique refuses a value that a list holds twice. field is "" for a list of texts, or else the field of its elements that
// holds the value.
func unique[T ~string](c checker, path, field string, values []T) {
	first := make(map[T]int, len(values))
	for i, value := range values {
		if at, ok := first[value]; !ok {
			first[value] = i
		} else if value != "" {
			c.element(path, i).fail(field, "%s is there already, at [%d]", quote(string(value)), at)
		}
	}
}

// between checks a range, both ends included. NaN is in none.
func between[T cmp.Ordered](c checker, path string, value, low, high T) {
	if !(value >= low && value <= high) {
		c.fail(path, "%s is not between %s and %s", c.shown(path, value), show(low), show(high))
	}
}

// shown writes the value of a path, and says if it is only the default, which clashes with something else then.
func (c checker) shown(path string, value any) string {
	if c.given(path) {
		return show(value)
	}
	return show(value) + " (the default)"
}

// oneOf checks a word that has a list of allowed ones.
func oneOf[T ~string](c checker, path string, value T, allowed ...T) {
	if slices.Contains(allowed, value) {
		return
	}
	words := make([]string, len(allowed))
	for i, word := range allowed {
		words[i] = string(word)
	}
	c.fail(path, "%s is not one of %s", quote(string(value)), strings.Join(words, ", "))
}

// show writes a value of a range for people: 10m rather than 10m0s.
func show(value any) string {
	s := fmt.Sprint(value)
	if _, ok := value.(Duration); ok {
		if strings.HasSuffix(s, "m0s") {
			s = s[:len(s)-2]
		}
		if strings.HasSuffix(s, "h0m") {
			s = s[:len(s)-2]
		}
	}
	return s
}

// labels checks the labels of an instance, or of a subset.
func (c checker) labels(labels map[string]string) {
	const most = 64
	if len(labels) > most {
		c.fail("labels", "%d labels are over the limit of %d", len(labels), most)
	}
	ok := true
	for key, value := range labels {
		ok = ok && checkLabel(key) == nil && checkLabel(value) == nil
	}
	if ok {
		return
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if err := checkLabel(key); err != nil {
			c.fail("labels", "a key %v", err)
		}
		c.entry("labels", key).must("", checkLabel(labels[key]))
	}
}

// idcTables checks tables of IDC weights, by the logical IDC of the caller. known, unless nil, holds the logical IDCs
// that there are.
func (c checker) idcTables(path string, tables map[string][]IDCWeight, known map[string]bool) {
	for _, from := range slices.Sorted(maps.Keys(tables)) {
		at, table := c.entry(path, from), tables[from]
		at.logical("", from, known)
		if len(table) == 0 {
			at.fail("", "is empty: name at least one IDC")
			continue
		}
		total, targets := 0, make([]string, len(table))
		for i, row := range table {
			at.element("", i).logical("to", row.To, known)
			between(at.element("", i), "weight", row.Weight, 0, maxWeight)
			total += row.Weight
			targets[i] = row.To
		}
		unique(at, "", "to", targets)
		if total == 0 {
			at.fail("", "all weights are 0")
		}
	}
}

// logical checks the name of a logical IDC.
func (c checker) logical(path, name string, known map[string]bool) {
	if err := CheckIDC(name); err != nil {
		c.fail(path, "%v", err)
	} else if known != nil && !known[name] {
		c.fail(path, "%s is not a logical IDC of idcs", quote(name))
	}
}

// maxWeight is the largest weight of anything.
const maxWeight = 1_000_000
