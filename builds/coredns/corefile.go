package main

import (
	"errors"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"

	"github.com/coredns/caddy"
)

// useCorefileDefaults makes {$NAME:default} work in the Corefile. CoreDNS knows only {$NAME}, which leaves nothing at all
// where NAME isn't set, so that no file could both run as it is and be adapted from outside.
//
// It takes the place of the loader behind -conf, and so is in force at every reload too. Files that are imported are left
// as they are.
func useCorefileDefaults() {
	path := new(corefilePath)
	flag.Lookup("conf").Value = path // CoreDNS's own loader sees an empty path, and leaves the file to this one
	caddy.RegisterCaddyfileLoader("corefile", caddy.LoaderFunc(path.load))
}

// corefilePath is the value of -conf.
type corefilePath string

// String implements flag.Value.
func (p *corefilePath) String() string { return string(*p) }

// Set implements flag.Value.
func (p *corefilePath) Set(value string) error {
	*p = corefilePath(value)
	return nil
}

func (p *corefilePath) load(serverType string) (caddy.Input, error) {
	path := string(*p)
	switch path {
	case "stdin":
		return caddy.CaddyfileFromPipe(os.Stdin, serverType)
	case "":
		path = caddy.DefaultConfigFile
	}
	contents, err := os.ReadFile(filepath.Clean(path))
	if *p == "" && errors.Is(err, fs.ErrNotExist) {
		return nil, nil // CoreDNS's built-in default
	}
	if err != nil {
		return nil, err
	}
	return caddy.CaddyfileInput{Contents: fillDefaults(contents), Filepath: path, ServerTypeName: serverType}, nil
}

// variable is {$NAME:default}. A default ends at the first brace and holds no line break.
var variable = regexp.MustCompile(`\{\$([A-Za-z_][A-Za-z0-9_]*):([^{}\n]*)\}`)

// fillDefaults replaces each {$NAME:default} by the environment's NAME, or by the default where NAME isn't set. One that is
// set but empty stays empty, as in a Caddyfile. Lines keep their numbers.
func fillDefaults(corefile []byte) []byte {
	return variable.ReplaceAllFunc(corefile, func(found []byte) []byte {
		parts := variable.FindSubmatch(found)
		if value, ok := os.LookupEnv(string(parts[1])); ok {
			return []byte(value)
		}
		return parts[2]
	})
}
