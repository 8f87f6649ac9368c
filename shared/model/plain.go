package model

import "bytes"

// plainInstance reads the value of an instance in the form that nearly all have: an object of known fields, each at most
// once, whose texts are printable ASCII without escapes and whose numbers are short and whole. It returns nil for
// anything else, right or wrong, and leaves that to the strict decoder; what it does read, the strict decoder reads
// just the same. It exists because the strict one takes twenty times as long, and 200,000 values are read at a start.
func plainInstance(address string, value []byte) *Instance {
	if len(value) > maxInstance {
		return nil
	}
	p := plain{data: value}
	instance := DefaultInstance()
	if !p.instance(&instance, address) {
		return nil
	}
	var problems report
	if instance.check(checker{root: &noNode, report: &problems}); len(problems.problems) > 0 {
		return nil
	}
	if p.newIDC != nil {
		sharedIDCs.put(p.newIDC, instance.IDC)
	}
	if p.newLabels != nil {
		sharedLabels.put(p.newLabels, instance.Labels)
	}
	return &instance
}

// noNode stands for the document where nobody will ask for a line.
var noNode node

// plain is a cursor over JSON. Its methods tell whether what they looked for was there; false ends the reading.
type plain struct {
	data []byte
	at   int
	// What isn't shared yet, as it is written. It must be validated first, or junk could flood the tables.
	newIDC, newLabels []byte
}

// instance reads the whole value.
func (p *plain) instance(out *Instance, address string) bool {
	if !p.take('{') {
		return false
	}
	var seen [5]bool
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return false
		}
		name, ok := p.text()
		if !ok || !p.take(':') {
			return false
		}
		field := 0
		switch string(name) {
		case "address":
			field, ok = 0, p.address(out, address)
		case "idc":
			field, ok = 1, p.idc(out)
		case "weight":
			field = 2
			out.Weight, ok = p.integer()
		case "labels":
			field, ok = 3, p.labels(out)
		case "state":
			field, ok = 4, p.state(out)
		default:
			return false
		}
		if !ok || seen[field] {
			return false
		}
		seen[field] = true
	}
	p.space()
	return p.at == len(p.data)
}

// address reads the address, which must be the key's.
func (p *plain) address(out *Instance, address string) bool {
	written, ok := p.text()
	if !ok || string(written) != address {
		return false
	}
	var err error
	out.Address, err = parseAddress(address)
	return err == nil
}

func (p *plain) idc(out *Instance) bool {
	written, ok := p.text()
	if !ok {
		return false
	}
	if out.IDC, ok = sharedIDCs.get(written); !ok {
		out.IDC, p.newIDC = string(written), written
	}
	return true
}

func (p *plain) state(out *Instance) bool {
	written, ok := p.text()
	switch string(written) {
	case string(Up):
		out.State = Up
	case string(Drain):
		out.State = Drain
	case string(Down):
		out.State = Down
	default:
		return false
	}
	return ok
}

// labels reads the labels, or finds them where the same text was read before.
func (p *plain) labels(out *Instance) bool {
	p.space()
	end := bytes.IndexByte(p.data[p.at:], '}')
	if end < 0 {
		return false
	}
	written := p.data[p.at : p.at+end+1] // less than the whole if a text holds }, which no table knows then
	if known, ok := sharedLabels.get(written); ok {
		out.Labels = known
		p.at += len(written)
		return true
	}
	start := p.at
	if !p.take('{') {
		return false
	}
	out.Labels = make(map[string]string)
	for first := true; !p.take('}'); first = false {
		if !first && !p.take(',') {
			return false
		}
		key, ok := p.text()
		if !ok || !p.take(':') {
			return false
		}
		value, ok := p.text()
		if _, twice := out.Labels[string(key)]; !ok || twice {
			return false
		}
		out.Labels[string(key)] = string(value)
	}
	p.newLabels = p.data[start:p.at]
	return true
}

// space skips the white space of JSON.
func (p *plain) space() {
	for p.at < len(p.data) {
		switch p.data[p.at] {
		case ' ', '\n', '\t', '\r':
			p.at++
		default:
			return
		}
	}
}

// take skips white space and one character.
func (p *plain) take(c byte) bool {
	p.space()
	if p.at == len(p.data) || p.data[p.at] != c {
		return false
	}
	p.at++
	return true
}

// text reads a text of printable ASCII without escapes.
func (p *plain) text() ([]byte, bool) {
	if !p.take('"') {
		return nil, false
	}
	for start := p.at; p.at < len(p.data); p.at++ {
		switch c := p.data[p.at]; {
		case c == '"':
			p.at++
			return p.data[start : p.at-1], true
		case c == '\\' || c < ' ' || c > '~':
			return nil, false
		}
	}
	return nil, false
}

// integer reads a whole number of up to nine digits without sign. What follows it must be a comma or an end, which the
// caller looks for: so 1.5 and 1e3 are not plain.
func (p *plain) integer() (int, bool) {
	p.space()
	start, n := p.at, 0
	for ; p.at < len(p.data) && '0' <= p.data[p.at] && p.data[p.at] <= '9'; p.at++ {
		n = n*10 + int(p.data[p.at]-'0')
	}
	digits := p.at - start
	return n, digits > 0 && digits <= 9 && (digits == 1 || p.data[start] != '0')
}
