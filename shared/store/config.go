package store

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// The defaults of a Config.
const (
	DefaultEndpoint = "http://127.0.0.1:2379"
	DefaultPrefix   = "/ufc/v1"
)

// Config says which etcd holds the mesh's configuration, and how to reach it.
type Config struct {
	// Endpoints are the client URLs of members, or of gRPC proxies in front of them, http or https but not both. Their order
	// counts: the first one that works is used, alone. When it fails or hangs the next one is, and each minute or so those
	// before are tried again, so write those of the own IDC first, and those of the one that stands in for it after. Agents that are
	// to share the members of an IDC are given these in different orders. Default DefaultEndpoint.
	Endpoints []string
	// Prefix is what all keys of this mesh begin with; it begins with a slash and doesn't end with one. Default DefaultPrefix.
	Prefix string
	// Username and Password are etcd's own. Both or neither.
	Username, Password string
	// Cert and Key are PEM files of the client certificate; both or neither. CA is a PEM file of the authorities trusted; default:
	// the system's. All are read again at each handshake, so that renewed ones need no restart. While they can't be read
	// the last ones count.
	Cert, Key, CA string
	// Snapshot is the file that a Follower keeps its last state in. Default: none. Two processes must not share one.
	Snapshot string
	// Logger gets warnings and errors. Default slog.Default().
	Logger *slog.Logger

	pilot pilotTiming // zero: the default
}

// String describes c without its password, so that a Config in a log line tells nothing secret.
func (c Config) String() string {
	return fmt.Sprintf("etcd %s prefix %s user %q snapshot %q", strings.Join(c.Endpoints, " "), c.Prefix, c.Username, c.Snapshot)
}

// LogValue implements slog.LogValuer, for the same reason as String.
func (c Config) LogValue() slog.Value { return slog.StringValue(c.String()) }

// Validate fills the defaults and checks what can be checked without reading files or asking etcd.
func (c *Config) Validate() error {
	if len(c.Endpoints) == 0 {
		c.Endpoints = []string{DefaultEndpoint}
	}
	if c.Prefix == "" {
		c.Prefix = DefaultPrefix
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	if c.pilot == (pilotTiming{}) {
		c.pilot = defaultPilotTiming
	}
	return errors.Join(c.checkEndpoints(), checkPrefix(c.Prefix), c.checkSecrets())
}

func (c *Config) checkEndpoints() error {
	secure := 0
	for _, endpoint := range c.Endpoints {
		scheme, err := checkEndpoint(endpoint)
		if err != nil {
			return err
		}
		if scheme == "https" {
			secure++
		}
	}
	switch {
	case secure != 0 && secure != len(c.Endpoints):
		// The client takes the first one's scheme for all.
		return fmt.Errorf("etcd endpoints %s: http and https can't be mixed", strings.Join(c.Endpoints, " "))
	case secure == 0 && (c.CA != "" || c.Cert != ""):
		return fmt.Errorf("etcd endpoints %s: with TLS files they must be https", strings.Join(c.Endpoints, " "))
	}
	return nil
}

// checkEndpoint returns the scheme of one endpoint. Its errors never show what stands before an @, which may be a password.
func checkEndpoint(endpoint string) (scheme string, err error) {
	shown := endpoint
	if at := strings.LastIndexByte(endpoint, '@'); at >= 0 {
		shown = "…" + endpoint[at:]
		return "", fmt.Errorf("etcd endpoint %q: must not hold a user; user and password are given apart", shown)
	}
	parsed, err := url.Parse(endpoint)
	if err != nil || parsed.Scheme != "http" && parsed.Scheme != "https" {
		return "", fmt.Errorf("etcd endpoint %q: is not of the form http://HOST:PORT or https://HOST:PORT", shown)
	}
	if strings.Trim(parsed.Path, "/") != "" || parsed.RawQuery != "" || parsed.Fragment != "" {
		return "", fmt.Errorf("etcd endpoint %q: nothing may follow the port", shown)
	}
	host, port, err := net.SplitHostPort(parsed.Host)
	if err != nil || host == "" {
		return "", fmt.Errorf("etcd endpoint %q: is not of the form %s://HOST:PORT", shown, parsed.Scheme)
	}
	if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
		return "", fmt.Errorf("etcd endpoint %q: port %q is not between 1 and 65535", shown, port)
	}
	return parsed.Scheme, nil
}

func checkPrefix(prefix string) error {
	odd := func(r rune) bool { return unicode.IsControl(r) || unicode.IsSpace(r) }
	switch {
	case !strings.HasPrefix(prefix, "/"):
		return fmt.Errorf("prefix %q: must begin with a slash", prefix)
	case strings.HasSuffix(prefix, "/"):
		return fmt.Errorf("prefix %q: must not end with a slash", prefix)
	case strings.Contains(prefix, "//"):
		return fmt.Errorf("prefix %q: has an empty part", prefix)
	case !utf8.ValidString(prefix) || strings.ContainsFunc(prefix, odd):
		return fmt.Errorf("prefix %q: has a space or a character that can't be printed", prefix)
	}
	return nil
}

func (c *Config) checkSecrets() error {
	switch {
	case c.Username != "" && c.Password == "":
		// The client would silently ask without either.
		return fmt.Errorf("etcd user %q: has no password", c.Username)
	case c.Username == "" && c.Password != "":
		return errors.New("etcd password: has no user")
	case (c.Cert == "") != (c.Key == ""):
		return fmt.Errorf("etcd client certificate %q and key %q: must be given together", c.Cert, c.Key)
	}
	return nil
}
