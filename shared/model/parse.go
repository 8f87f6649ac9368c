package model

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"slices"
)

// ParseService reads the value of a service's key in etcd. The value's name must be the key's.
//
// The problems are warnings: fields that this version doesn't know, maybe since a newer one wrote them. The error is
// Problems, all that is wrong.
func ParseService(name string, value []byte) (*Service, []Problem, error) {
	service := DefaultService("")
	warnings, err := parse(parser{
		document: "service " + quote(name),
		kind:     KindService,
		limit:    maxValue,
		out:      service,
		check: func(c checker) {
			service.check(c)
			if service.Name != name {
				c.fail("name", "%s is not the name in the key, %s", quote(service.Name), quote(name))
			}
		},
	}, value)
	if err != nil {
		return nil, warnings, err
	}
	return service, warnings, nil
}

// WithoutWebhook returns a service's value without its ban.webhook. The value must be one that ParseService reads; all
// else in it stays, what this version doesn't know too.
func WithoutWebhook(value []byte) []byte {
	root, err := readJSON(value, 1)
	if err != nil {
		return nil
	}
	if ban := root.member("ban"); ban != nil {
		ban.value.members = slices.DeleteFunc(ban.value.members, func(m member) bool { return m.key == "webhook" })
	}
	var b bytes.Buffer
	root.appendJSON(&b)
	return b.Bytes()
}

// ParseInstance reads the value of an instance's key in etcd; address is the key's last segment, and the value's must be
// the same. Warnings and errors are as with ParseService. The instance may share its labels with others: nobody may
// change them.
func ParseInstance(address string, value []byte) (*Instance, []Problem, error) {
	if instance := plainInstance(address, value); instance != nil {
		return instance, nil, nil
	}
	return strictInstance(address, value)
}

// strictInstance is ParseInstance for every value, plain or not.
func strictInstance(address string, value []byte) (*Instance, []Problem, error) {
	instance := DefaultInstance()
	warnings, err := parse(parser{
		document: "instance " + quote(address),
		kind:     KindInstances,
		limit:    maxInstance,
		out:      &instance,
		check: func(c checker) {
			instance.check(c)
			if written := instance.Address.String(); written != address {
				c.fail("address", "%q is not the address in the key, %s", written, quote(address))
			}
		},
	}, value)
	if err != nil {
		return nil, warnings, err
	}
	if idc, ok := sharedIDCs.get([]byte(instance.IDC)); ok {
		instance.IDC = idc
	}
	return &instance, warnings, nil
}

// ParseTopology reads the value of the topology's key in etcd. Warnings and errors are as with ParseService.
func ParseTopology(value []byte) (*Topology, []Problem, error) {
	topology := &Topology{}
	warnings, err := parse(parser{
		document: "topology",
		kind:     KindTopology,
		limit:    maxValue,
		out:      topology,
		check:    topology.check,
	}, value)
	if err != nil {
		return nil, warnings, err
	}
	return topology, warnings, nil
}

// JSON returns the value of the instance's key in etcd.
func (i *Instance) JSON() []byte {
	value, err := json.Marshal(i)
	if err != nil { // no field's type can fail
		panic(fmt.Sprintf("model: encoding an instance: %v", err))
	}
	return value
}

// parser says how to read one value of etcd.
type parser struct {
	document string
	kind     Kind
	limit    int // bytes
	out      any // holds the defaults
	check    func(checker)
}

// maxInstance is the largest value of an instance: 64 labels of the longest kind, all escaped, are about that much.
const maxInstance = 64 << 10

// parse reads one value of etcd.
func parse(p parser, value []byte) ([]Problem, error) {
	problems := &report{document: p.document}
	unknown := &report{document: p.document}
	if len(value) > p.limit {
		problems.add(0, "", "%d bytes, over the limit of %d", len(value), p.limit)
		return nil, problems.err()
	}
	root, err := readJSON(value, 1)
	if err != nil {
		problems.syntax(err)
		return nil, problems.err()
	}
	if root.shape != mapping {
		problems.add(root.line, "", "%v is not a mapping", root)
		return nil, problems.err()
	}
	body := root
	if p.kind == KindService || p.kind == KindTopology { // an instance is one element of a document, and has no kind; nor have the others
		if kind := documentKind(root, problems); kind != "" && kind != p.kind {
			problems.add(root.line, "kind", "%s is not %s", quote(string(kind)), p.kind)
		}
		body = withoutKind(root)
	}
	d := &decoder{report: problems, unknown: unknown}
	d.value(body, body.line, reflect.ValueOf(p.out).Elem())
	p.check(checker{root: body, report: problems})
	return unknown.problems, problems.err()
}

// documentKind returns the kind that a document, a mapping, names, "" after reporting that it names none.
func documentKind(root *node, problems *report) Kind {
	kind := root.member("kind")
	for i := range root.members {
		if second := &root.members[i]; second.key == "kind" && second != kind {
			problems.add(second.line, "kind", "given twice, first on line %d", kind.line)
			return ""
		}
	}
	switch {
	case kind == nil:
		problems.add(root.line, "kind", "is missing: one of %s, %s, %s", KindService, KindInstances, KindTopology)
		return ""
	case kind.value.shape == text:
		switch k := Kind(kind.value.text); k {
		case KindService, KindInstances, KindTopology:
			return k
		}
	}
	problems.add(kind.line, "kind", "%v is not one of %s, %s, %s", &kind.value, KindService, KindInstances, KindTopology)
	return ""
}

// withoutKind returns a document without its kind, which is no field of the types.
func withoutKind(root *node) *node {
	body := *root
	body.members = slices.DeleteFunc(slices.Clone(root.members), func(m member) bool { return m.key == "kind" })
	return &body
}
