package store

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/ufc-mesh/ufc/shared/model"
)

// The folders below PREFIX/config/, and the keys that aren't in a folder.
const (
	servicesFolder  = "services/"
	instancesFolder = "instances/"
	bansFolder      = "bans/" // made by hand
	topologyKey     = "topology"
	confirmKey      = "confirm"  // of removals, by hand
	confirmFolder   = "confirm/" // of those of one service
)

// keyspace names the keys of one mesh.
type keyspace struct {
	root string // PREFIX/config/: what every agent watches, as one range, so that a proxy can merge their watches, whatever it follows
	told string // PREFIX/bans/: what agents tell of their own bans; each watches its own host's only
	here string // PREFIX/agents/: which agents there are; nobody watches it
}

func newKeyspace(prefix string) keyspace {
	return keyspace{prefix + "/config/", prefix + "/bans/", prefix + "/agents/"}
}

func (k keyspace) services() string           { return k.root + servicesFolder }
func (k keyspace) service(name string) string { return k.root + servicesFolder + name }
func (k keyspace) topology() string           { return k.root + topologyKey }

// confirm is the key of a confirmation: of one service, or of all without a name. allConfirms is the folder of the former.
func (k keyspace) confirm(service string) string {
	if service == "" {
		return k.root + confirmKey
	}
	return k.allConfirms() + service
}
func (k keyspace) allConfirms() string { return k.root + confirmFolder }

// confirms tells whether a key is a confirmation's.
func (k keyspace) confirms(key []byte) bool {
	rest, ok := bytes.CutPrefix(key, []byte(k.root))
	return ok && (string(rest) == confirmKey || bytes.HasPrefix(rest, []byte(confirmFolder)))
}

// allInstances is the folder of all services' instances, instances that of one service's.
func (k keyspace) allInstances() string                 { return k.root + instancesFolder }
func (k keyspace) instances(service string) string      { return k.root + instancesFolder + service + "/" }
func (k keyspace) instance(service, addr string) string { return k.instances(service) + addr }

// allBans is the folder of all bans made by hand, bans that of one service's.
func (k keyspace) allBans() string                 { return k.root + bansFolder }
func (k keyspace) bans(service string) string      { return k.root + bansFolder + service + "/" }
func (k keyspace) ban(service, addr string) string { return k.bans(service) + addr }

// toldOf is the folder of the bans that a host's agents tell, toldBan the key of one of them.
func (k keyspace) toldOf(host string) string { return k.told + host + "/" }
func (k keyspace) toldBan(host, service, addr string) string {
	return k.toldOf(host) + service + "/" + addr
}

// agent is the key of an agent, parseAgent its id.
func (k keyspace) agent(id string) string { return k.here + id }
func (k keyspace) parseAgent(key []byte) (id string, err error) {
	rest, ok := bytes.CutPrefix(key, []byte(k.here))
	if id = string(rest); !ok {
		return string(key), fmt.Errorf("key %q: is not below %q", key, k.here)
	}
	if err := CheckAgentID(id); err != nil {
		return id, fmt.Errorf("key %q: %w", key, err)
	}
	return id, nil
}

// parseTold takes the key of a told ban apart. With an error, the parts are what they look like.
func (k keyspace) parseTold(key []byte) (host, service, address string, err error) {
	rest, ok := bytes.CutPrefix(key, []byte(k.told))
	parts := strings.SplitN(string(rest), "/", 3)
	if !ok || len(parts) < 3 {
		return "", string(key), "", fmt.Errorf("key %.140q: is not %s<host>/<service>/<host:port>", key, k.told)
	}
	host, service, address = parts[0], parts[1], parts[2]
	err = CheckHost(host)
	if err == nil {
		err = model.CheckName(service)
	}
	if err != nil {
		return host, service, address, fmt.Errorf("key %.140q: %w", key, err)
	}
	return host, service, address, checkAddress(key, address)
}

// maxHost is the longest name of a host: DNS's own limit.
const maxHost = 253

// CheckHost tells whether the name of a host can be a part of a key: 1–253 bytes that can be printed, no space, no slash.
func CheckHost(host string) error { return checkPart("host", host) }

// CheckAgentID tells whether an agent's id can be a part of a key, by the rule of a host's name.
func CheckAgentID(id string) error { return checkPart("agent_id", id) }

func checkPart(what, name string) error {
	odd := func(r rune) bool { return r == '/' || !unicode.IsPrint(r) || unicode.IsSpace(r) }
	if name == "" || len(name) > maxHost || !utf8.ValidString(name) || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("%s %.300q is not 1-%d printable bytes without space or slash", what, name, maxHost)
	}
	return nil
}

// of returns the key of a record.
func (k keyspace) of(kind model.Kind, name, address string) string {
	switch kind {
	case model.KindService:
		return k.service(name)
	case model.KindInstances:
		return k.instance(name, address)
	case model.KindBan:
		return k.ban(name, address)
	case model.KindConfirm:
		return k.confirm(name)
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
// that the refused record can be named; an unknown kind of key has its whole rest as name.
func (p *keyParser) parse(key []byte) (kind model.Kind, name, address string, err error) {
	rest, ok := bytes.CutPrefix(key, []byte(p.root))
	if !ok {
		return "", string(key), "", fmt.Errorf("key %.140q: is not below %q", key, p.root)
	}
	switch string(rest) {
	case topologyKey:
		return model.KindTopology, "", "", nil
	case confirmKey:
		return model.KindConfirm, "", "", nil
	}
	for _, folder := range nameFolders {
		if service, ok := bytes.CutPrefix(rest, []byte(folder.name)); ok {
			name, err = p.service(key, service)
			return folder.kind, name, "", err
		}
	}
	for _, folder := range addressFolders {
		instance, ok := bytes.CutPrefix(rest, []byte(folder.name))
		if service, addr, cut := bytes.Cut(instance, []byte("/")); ok && cut {
			name, err = p.service(key, service)
			if address = string(addr); err == nil {
				err = checkAddress(key, address)
			}
			return folder.kind, name, address, err
		}
	}
	return "", string(rest), "", fmt.Errorf("key %.140q: is neither %s<name>, %s<service>/<host:port>, %s<service>/<host:port>, %s nor %s",
		key, servicesFolder, instancesFolder, bansFolder, topologyKey, confirmKey)
}

type keyFolder struct {
	name string
	kind model.Kind
}

// nameFolders are those whose keys are <service>, addressFolders those whose keys are <service>/<host:port>.
var (
	nameFolders    = [...]keyFolder{{servicesFolder, model.KindService}, {confirmFolder, model.KindConfirm}}
	addressFolders = [...]keyFolder{{instancesFolder, model.KindInstances}, {bansFolder, model.KindBan}}
)

// service returns the checked name of a service.
func (p *keyParser) service(key, name []byte) (string, error) {
	if string(name) == p.name && p.name != "" {
		return p.name, nil
	}
	text := string(name)
	if err := model.CheckName(text); err != nil {
		return text, fmt.Errorf("key %.140q: %w", key, err)
	}
	p.name = text
	return text, nil
}

// checkAddress wants the one canonical form, so that one instance can't have two keys.
func checkAddress(key []byte, address string) error {
	parsed, err := netip.ParseAddrPort(address)
	if err != nil {
		return fmt.Errorf("key %.140q: %.140q is not an address of the form IP:PORT", key, address)
	}
	var scratch [64]byte
	if canonical := parsed.AppendTo(scratch[:0]); string(canonical) != address {
		return fmt.Errorf("key %q: address %q must be written %q", key, address, canonical)
	}
	return nil
}

// serviceOf returns the name of the service that a key is about, as it is written; false: it is about none.
func (k keyspace) serviceOf(key []byte) (name []byte, ok bool) {
	rest, ok := bytes.CutPrefix(key, []byte(k.root))
	if !ok {
		return nil, false
	}
	if name, ok = bytes.CutPrefix(rest, []byte(servicesFolder)); ok {
		return name, true
	}
	for _, folder := range addressFolders {
		if name, ok = bytes.CutPrefix(rest, []byte(folder.name)); ok {
			name, _, ok = bytes.Cut(name, []byte("/"))
			return name, ok
		}
	}
	return nil, false
}

// rangeEnd returns the end of the range of all keys that begin with folder, which ends with a slash.
func rangeEnd(folder string) string {
	return strings.TrimSuffix(folder, "/") + "0" // '0' follows '/'
}
