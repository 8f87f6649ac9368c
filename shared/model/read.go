package model

import (
	"bytes"
	"cmp"
	"errors"
	"reflect"
	"slices"
)

// Document is one document of a file: exactly one of Service, Instances and Topology is set.
type Document struct {
	Kind Kind
	Name string // the service's, for Service and Instances; "" for the Topology, of which there is one
	File string
	Line int

	Service   *Service
	Instances *Instances
	Topology  *Topology

	// Value is a Service or Topology as written, without defaults, as compact JSON: what is stored in etcd, so that a
	// default that changes with a new version changes for all who never chose. It is nil for Instances, which are
	// stored one by one (Instance.JSON).
	Value []byte
}

// Read reads all documents of one file, YAML or JSON. file is only for messages, and for its ending: .json allows nothing
// but JSON. The error is Problems, all that is wrong with the file; there are no documents then.
//
// What is read is stricter than YAML: see readYAML for what is a number or a boolean, and the decoder for null. Aliases
// work, merge keys and tags don't.
func Read(file string, data []byte) ([]Document, error) {
	problems := &report{file: file}
	roots, err := readNodes(file, data)
	var documents []Document
	for _, root := range roots {
		problems.begin("")
		if document, ok := readDocument(root, problems); ok {
			documents = append(documents, document)
		}
	}
	problems.begin("")
	if err != nil {
		problems.syntax(err)
	}
	var duplicates Problems
	if errors.As(CheckDuplicates(documents), &duplicates) {
		problems.problems = append(problems.problems, duplicates...)
	}
	if err := problems.err(); err != nil {
		slices.SortStableFunc(problems.problems, func(a, b Problem) int { return cmp.Compare(a.Line, b.Line) })
		return nil, problems.err()
	}
	return documents, nil
}

// readDocument reads one document, and tells whether it is free of problems.
func readDocument(root *node, problems *report) (Document, bool) {
	document := Document{File: problems.file, Line: root.line}
	if root.shape != mapping {
		problems.add(root.line, "", "%v is not a mapping", root)
		return document, false
	}
	document.Kind = documentKind(root, problems)
	body := withoutKind(root)
	var out any
	var check func(checker)
	switch document.Kind {
	case KindService:
		document.Name = textOf(body, "name")
		document.Service = DefaultService("")
		out, check = document.Service, document.Service.check
	case KindInstances:
		document.Name = textOf(body, "service")
		document.Instances = &Instances{}
		out, check = document.Instances, document.Instances.check
	case KindTopology:
		document.Topology = &Topology{}
		out, check = document.Topology, document.Topology.check
	default:
		return document, false
	}
	problems.begin(document.label())
	d := &decoder{report: problems, unknown: problems}
	d.value(body, body.line, reflect.ValueOf(out).Elem())
	check(checker{root: body, report: problems})
	if len(problems.problems) == problems.start && document.Kind != KindInstances {
		document.Value = encode(root, problems)
	}
	return document, len(problems.problems) == problems.start
}

// encode returns a document as compact JSON.
func encode(root *node, problems *report) []byte {
	var b bytes.Buffer
	root.appendJSON(&b)
	if b.Len() > maxValue {
		problems.add(root.line, "", "%d bytes as JSON, over the limit of %d", b.Len(), maxValue)
	}
	return b.Bytes()
}

// label names the document in problems.
func (d *Document) label() string {
	switch d.Kind {
	case KindService:
		return "service " + quote(d.Name)
	case KindInstances:
		return "instances of " + quote(d.Name)
	}
	return "topology"
}

// textOf returns a text of a mapping, "" if there is none.
func textOf(n *node, key string) string {
	if m := n.member(key); m != nil && m.value.shape == text {
		return m.value.text
	}
	return ""
}

// CheckDuplicates refuses a second document of the same kind and name, in whichever file: which of the two would win
// should never depend on the order of files. The error is Problems.
func CheckDuplicates(documents []Document) error {
	type identity struct {
		kind Kind
		name string
	}
	first := make(map[identity]*Document, len(documents))
	problems := &report{}
	for i := range documents {
		d := &documents[i]
		id := identity{d.Kind, d.Name}
		if first[id] == nil {
			first[id] = d
			continue
		}
		problems.file = d.File
		problems.begin(d.label())
		problems.add(d.Line, "", "given twice, first at %s:%d", printable(first[id].File), first[id].Line)
	}
	return problems.err()
}
