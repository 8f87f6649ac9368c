package store

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
)

// The folders below PREFIX/config/, and the one key that isn't in a folder.
const (
	servicesFolder  = "services/"
	instancesFolder = "instances/"
	bansFolder      = "bans/" // made by hand; watched with the rest, but not in force yet
	topologyKey     = "topology"
)

// errIgnored marks keys that this version knows of and does nothing with.
var errIgnored = errors.New("ignored")

// keyspace names the keys of one mesh.
type keyspace struct {
	root string // PREFIX/config/: what every agent watches, as one range, so that a proxy can merge their watches
}

func newKeyspace(prefix string) keyspace { return keyspace{prefix + "/config/"} }

func (k keyspace) services() string           { return k.root + servicesFolder }
func (k keyspace) service(name string) string { return k.root + servicesFolder + name }
func (k keyspace) topology() string           { return k.root + topologyKey }

// allInstances is the folder of all services' instances, instances that of one service's.
func (k keyspace) allInstances() string                 { return k.root + instancesFolder }
func (k keyspace) instances(service string) string      { return k.root + instancesFolder + service + "/" }
func (k keyspace) instance(service, addr string) string { return k.instances(service) + addr }

// of returns the key of a record.
func (k keyspace) of(kind model.Kind, name, address string) string {
	switch kind {
	case model.KindService:
		return k.service(name)
	case model.KindInstances:
		return k.instance(name, address)
	default:
		return k.topology()
	}
}

// keyParser takes keys apart. It keeps the last service's name, since the keys of a service's instances follow one
// another: 200,000 of them then share 1,000 strings. The zero value is ready but for the keyspace.
type keyParser struct {
	keyspace
	name string // the last good one
}

// parse returns what the key stands for. With an error, kind, name and address are what they look like, as written, so
// that the refused record can be named; an unknown kind of key has its whole rest as name. errIgnored: not a record.
func (p *keyParser) parse(key []byte) (kind model.Kind, name, address string, err error) {
	rest, ok := bytes.CutPrefix(key, []byte(p.root))
	if !ok {
		return "", string(key), "", fmt.Errorf("key %q: is not below %q", key, p.root)
	}
	if string(rest) == topologyKey {
		return model.KindTopology, "", "", nil
	}
	if service, ok := bytes.CutPrefix(rest, []byte(servicesFolder)); ok {
		name, err = p.service(key, service)
		return model.KindService, name, "", err
	}
	if instance, ok := bytes.CutPrefix(rest, []byte(instancesFolder)); ok {
		if service, addr, ok := bytes.Cut(instance, []byte("/")); ok {
			name, err = p.service(key, service)
			if address = string(addr); err == nil {
				err = checkAddress(key, address)
			}
			return model.KindInstances, name, address, err
		}
	}
	if bytes.HasPrefix(rest, []byte(bansFolder)) {
		return "", "", "", errIgnored
	}
	return "", string(rest), "", fmt.Errorf("key %q: is neither %s<name>, %s<service>/<host:port> nor %s",
		key, servicesFolder, instancesFolder, topologyKey)
}

// service returns the checked name of a service.
func (p *keyParser) service(key, name []byte) (string, error) {
	if string(name) == p.name && p.name != "" {
		return p.name, nil
	}
	text := string(name)
	if err := model.CheckName(text); err != nil {
		return text, fmt.Errorf("key %q: %w", key, err)
	}
	p.name = text
	return text, nil
}

// checkAddress wants the one canonical form, so that one instance can't have two keys.
func checkAddress(key []byte, address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("key %q: %q is not an address of the form IP:PORT", key, address)
	}
	var scratch [64]byte
	if canonical := parsed.AppendTo(scratch[:0]); string(canonical) != address {
		return fmt.Errorf("key %q: address %q must be written %q", key, address, canonical)
	}
	return nil
}

// rangeEnd returns the end of the range of all keys that begin with folder, which ends with a slash.
func rangeEnd(folder string) string {
	return strings.TrimSuffix(folder, "/") + "0" // '0' follows '/'
}
