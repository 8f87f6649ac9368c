package main

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestReadSettings(t *testing.T) {
	t.Setenv("UFC_AGENT_PORT", "18888")
	s, err := readSettings()
	if err != nil || s.Agent.Number != 18888 || s.DNS.Number != 1053 {
		t.Errorf("agent %d, DNS %d, %v", s.Agent.Number, s.DNS.Number, err)
	}
	for _, bad := range []string{"eighty", "0", "-1", "65536", "80 "} {
		t.Setenv("UFC_AGENT_PORT", bad)
		if _, err := readSettings(); err == nil || !strings.Contains(err.Error(), "UFC_AGENT_PORT") || !strings.Contains(err.Error(), bad) {
			t.Errorf("UFC_AGENT_PORT=%q: %v", bad, err)
		}
	}
}

func TestCheckPorts(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := port{Number: listener.Addr().(*net.TCPAddr).Port, Variable: "UFC_X_PORT", Use: "the test"}
	if err := checkPorts([]port{taken}); err == nil || !strings.Contains(err.Error(), "UFC_X_PORT") || !strings.Contains(err.Error(), "the test") {
		t.Errorf("a port in use: %v", err)
	}
	listener.Close()
	if err := checkPorts([]port{taken}); err != nil {
		t.Errorf("a free port: %v", err)
	}
	if err := checkPorts([]port{taken, taken}); err == nil {
		t.Error("one port for two was not noticed")
	}
}

func lowest(servers []*demoServer) int {
	least := 65536
	for _, server := range servers {
		least = min(least, int(server.address.Port()))
	}
	return least
}

// Where the demo servers move, the copies of the documents move with them, and nothing else does.
func TestMovedDemo(t *testing.T) {
	s, err := readSettings()
	if err != nil {
		t.Fatal(err)
	}
	s.Data = t.TempDir()
	still, err := readDemo("../../examples", s)
	if err != nil || len(still.servers) != 10 || still.folder != "../../examples" || lowest(still.servers) != s.Demo.Number {
		t.Fatalf("unmoved: %+v, %v", still, err)
	}
	s.Demo.Number = 19101
	moved, err := readDemo("../../examples", s)
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(moved.folder, "*.yaml"))
	if err != nil || len(files) != 5 {
		t.Fatalf("copies: %q, %v", files, err)
	}
	var addresses []string
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		documents, err := model.Read(file, data)
		if err != nil {
			t.Fatal(err)
		}
		for _, document := range documents {
			if document.Kind == model.KindInstances {
				for _, instance := range document.Instances.Instances {
					addresses = append(addresses, instance.Address.String())
				}
			}
		}
	}
	want := "127.0.0.1:19104 127.0.0.1:19105 127.0.0.1:19106 " + // gray-release.yaml
		"127.0.0.1:19101 127.0.0.1:19102 127.0.0.1:19103 " + // hello.yaml
		"127.0.0.2:6379 127.0.0.3:6379 127.0.0.4:6379 " + // redis-main.yaml
		"127.0.0.1:19107 127.0.0.1:19108 127.0.0.1:19109 127.0.0.1:19110" // traffic-migration.yaml
	if got := strings.Join(addresses, " "); got != want {
		t.Errorf("moved to %s, want %s", got, want)
	}
	s.Demo.Number = 65534
	if _, err := readDemo("../../examples", s); err == nil || !strings.Contains(err.Error(), "UFC_DEMO_PORT") {
		t.Errorf("moved beyond the last port: %v", err)
	}
}
