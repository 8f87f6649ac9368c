package store

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
)

// Action is what becomes of a key.
type Action string

// The actions.
const (
	Create    Action = "create"
	Update    Action = "update"
	Delete    Action = "delete"
	Unchanged Action = "unchanged"
)

// Plan is what applying some documents would change, and what they leave as it is.
type Plan struct {
	// Changes stand in the order of the documents; instances by address.
	Changes []Change
}

// Change is what becomes of one key.
type Change struct {
	Action   Action
	Kind     model.Kind // KindInstances for one instance
	Name     string     // the service; empty for the topology
	Address  string     // only for KindInstances
	Old, New []byte     // the values; nil where there is none
	// Leased: the instance registered itself under a lease, and stays as it is, whatever the documents say: Action is
	// Unchanged, and New is what they say, nil if they don't name it.
	Leased bool

	revision int64 // of the key when it was planned; 0: there was none
}

// Count returns how many keys Apply would write or delete.
func (p *Plan) Count() int {
	count := 0
	for i := range p.Changes {
		if p.Changes[i].Action != Unchanged {
			count++
		}
	}
	return count
}

// Plan compares documents with what is in etcd. A Service or a Topology is compared as JSON, whatever its order and spaces;
// an instance by its meaning. An Instances document is the wanted set: what it doesn't name is to be deleted.
func (c *Client) Plan(ctx context.Context, docs []model.Document) (*Plan, error) {
	if err := model.CheckDuplicates(docs); err != nil {
		return nil, err
	}
	plan := &Plan{}
	for i := range docs {
		present, err := c.Get(ctx, docs[i].Kind, docs[i].Name)
		if err != nil {
			return nil, err
		}
		if docs[i].Kind == model.KindInstances {
			plan.Changes = append(plan.Changes, planInstances(docs[i].Instances, present)...)
			continue
		}
		plan.Changes = append(plan.Changes, planDocument(&docs[i], present))
	}
	return plan, nil
}

func planDocument(doc *model.Document, present []Entry) Change {
	if len(present) == 0 {
		return Change{Action: Create, Kind: doc.Kind, Name: doc.Name, New: doc.Value}
	}
	if sameJSON(present[0].Value, doc.Value) {
		return present[0].change(Unchanged, doc.Value)
	}
	return present[0].change(Update, doc.Value)
}

func planInstances(wanted *model.Instances, present []Entry) []Change {
	gone := make(map[string]*Entry, len(present))
	for i := range present {
		gone[present[i].Address] = &present[i]
	}
	changes := make([]Change, 0, len(wanted.Instances))
	for i := range wanted.Instances {
		instance := &wanted.Instances[i]
		address, value := instance.Address.String(), instance.JSON()
		old := gone[address]
		delete(gone, address)
		switch {
		case old == nil:
			changes = append(changes, Change{
				Action: Create, Kind: model.KindInstances, Name: wanted.Service, Address: address, New: value,
			})
		case old.Leased || sameInstance(old, value):
			changes = append(changes, old.change(Unchanged, value))
		default:
			changes = append(changes, old.change(Update, value))
		}
	}
	for _, old := range gone {
		if old.Leased {
			changes = append(changes, old.change(Unchanged, nil))
		} else {
			changes = append(changes, old.change(Delete, nil))
		}
	}
	slices.SortFunc(changes, func(a, b Change) int { return strings.Compare(a.Address, b.Address) })
	return changes
}

// sameInstance compares an instance in etcd with a wanted value by what they mean, since who registered it may have left
// defaults out. Fields that this version doesn't know are a difference.
func sameInstance(old *Entry, wanted []byte) bool {
	instance, problems, err := model.ParseInstance(old.Address, old.Value)
	if err != nil || len(problems) > 0 {
		return sameJSON(old.Value, wanted)
	}
	return bytes.Equal(instance.JSON(), wanted)
}

// sameJSON tells whether two texts are the same JSON, but for spaces and the order of members. Numbers must be written the
// same: 1.0 isn't 1.
func sameJSON(a, b []byte) bool {
	one, err := canonical(a)
	if err != nil {
		return bytes.Equal(a, b)
	}
	other, err := canonical(b)
	return err == nil && bytes.Equal(one, other)
}

func canonical(text []byte) ([]byte, error) {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var value any
	if err := decoder.Decode(&value); err != nil {
		return nil, err
	}
	if decoder.More() {
		return nil, &json.SyntaxError{Offset: decoder.InputOffset()}
	}
	return json.Marshal(value)
}
