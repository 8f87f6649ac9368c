package model

import "time"

// Confirmation is the word of a person that what was removed from etcd, be it ever so much, is meant to be gone. Agents that
// hold such a removal back let go. It is one key of etcd: config/confirm for the whole mesh, config/confirm/<service> for
// one service.
type Confirmation struct {
	// Revision is etcd's, up to which removals are confirmed; over 0. What goes later is judged anew.
	Revision int64 `json:"revision"`
	// Services and Instances are how many Service documents and instances etcd had at Revision, of the one service if the
	// key names one: what is meant to be left.
	Services  int `json:"services"`
	Instances int `json:"instances"`
	// By is who confirmed, free text, up to 1024 bytes.
	By string `json:"by,omitempty"`
	// At is when. Zero: unknown.
	At time.Time `json:"at,omitzero"`
}

// maxConfirmation is the largest value of a confirmation: a text, every byte of it escaped, and numbers.
const maxConfirmation = 16 << 10

// ParseConfirmation reads the value of a confirmation's key; service is of its key, empty for the mesh's. Warnings and errors
// are as with ParseService.
func ParseConfirmation(service string, value []byte) (*Confirmation, []Problem, error) {
	confirmation := &Confirmation{}
	document := "confirmation"
	if service != "" {
		document += " of service " + quote(service)
	}
	warnings, err := parse(parser{
		document: document, kind: KindConfirm, limit: maxConfirmation, out: confirmation, check: confirmation.check,
	}, value)
	if err != nil {
		return nil, warnings, err
	}
	return confirmation, warnings, nil
}

func (c *Confirmation) check(to checker) {
	if c.Revision < 1 {
		to.fail("revision", "%d is under 1", c.Revision)
	}
	for path, count := range map[string]int{"services": c.Services, "instances": c.Instances} {
		if count < 0 {
			to.fail(path, "%d is under 0", count)
		}
	}
	to.must("by", checkText(c.By, maxText))
}

// JSON returns the value of the confirmation's key in etcd.
func (c *Confirmation) JSON() []byte { return mustJSON(c) }
