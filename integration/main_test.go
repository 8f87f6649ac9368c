package integration

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
)

// top is the project's top folder.
var top string

func TestMain(m *testing.M) {
	if folder := os.Getenv(etcdFolder); folder != "" {
		os.Exit(serveEtcd(folder, os.Getenv(etcdPort)))
	}
	if address := os.Getenv(instanceAddress); address != "" {
		os.Exit(serveInstance(address))
	}
	var err error
	if top, err = filepath.Abs(".."); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	for _, binary := range []string{"bin/caddy", "bin/coredns"} {
		if _, err := os.Stat(filepath.Join(top, binary)); err != nil {
			fmt.Fprintf(os.Stderr, "%v: the integration tests need the binaries; run them by make integration\n", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}
