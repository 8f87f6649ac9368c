package caddyufc_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/caddyserver/caddy/v2"
	"github.com/caddyserver/caddy/v2/caddyconfig"
	"github.com/caddyserver/caddy/v2/caddytest"

	_ "github.com/caddyserver/caddy/v2/modules/standard"

	"github.com/ufc-mesh/ufc/caddyufc"
	_ "github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
)

var update = flag.Bool("update", false, "write the golden files of adapted Caddyfiles")

// read returns a file of testdata.
func read(t *testing.T, path ...string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{"testdata"}, path...)...))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// adapt turns a Caddyfile into JSON.
func adapt(caddyfile string) ([]byte, error) {
	adapted, _, err := caddyconfig.GetAdapter("caddyfile").Adapt([]byte(caddyfile), map[string]any{"filename": "Caddyfile"})
	return adapted, err
}

func list(t *testing.T, folder string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.Caddyfile"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no Caddyfile in %s: %v", folder, err)
	}
	for i := range files {
		files[i] = filepath.Base(files[i])
	}
	return files
}

// TestAdapt compares what Caddyfiles are adapted to with the golden files beside them.
func TestAdapt(t *testing.T) {
	for _, file := range list(t, "adapt") {
		t.Run(file, func(t *testing.T) {
			caddyfile, golden := read(t, "adapt", file), strings.TrimSuffix(file, ".Caddyfile")+".json"
			if *update {
				adapted, err := adapt(caddyfile)
				if err != nil {
					t.Fatal(err)
				}
				var pretty bytes.Buffer
				if err := json.Indent(&pretty, adapted, "", "\t"); err != nil {
					t.Fatal(err)
				}
				pretty.WriteByte('\n')
				if err := os.WriteFile(filepath.Join("testdata", "adapt", golden), pretty.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			caddytest.AssertAdapt(t, caddyfile, "caddyfile", strings.TrimSuffix(read(t, "adapt", golden), "\n"))
		})
	}
}

// TestBadCaddyfiles checks that a mistake is named with its file and line. The wanted text is the file's first comment.
func TestBadCaddyfiles(t *testing.T) {
	for _, file := range list(t, "bad") {
		t.Run(file, func(t *testing.T) {
			caddyfile := read(t, "bad", file)
			first, _, _ := strings.Cut(caddyfile, "\n")
			want := strings.TrimPrefix(first, "# ")
			adapted, err := adapt(caddyfile)
			if err == nil {
				t.Fatalf("it was accepted: %s", adapted)
			}
			if !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "Caddyfile:") {
				t.Errorf("the error is\n%s\nwithout\n%s", err, want)
			}
		})
	}
}

// TestLean asks for the embedded etcd in a build without it, by Caddyfile and by JSON.
func TestLean(t *testing.T) {
	caddyufc.Lean(t)
	const want = "build it with the package github.com/ufc-mesh/ufc/caddyufc/embeddedetcd"
	if _, err := adapt(read(t, "adapt", "embedded.Caddyfile")); err == nil || !strings.Contains(err.Error(), want) ||
		!strings.Contains(err.Error(), "Caddyfile:3") {
		t.Errorf("Caddyfile: %v", err)
	}
	if err := caddy.Load([]byte(read(t, "adapt", "embedded.json")), true); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("JSON: %v", err)
	}
}

// FuzzCaddyfile puts any text into the blocks of the global option and the directives. What is accepted must be a
// configuration that decodes again; what is not must come with a line.
func FuzzCaddyfile(f *testing.F) {
	for _, line := range []string{
		"etcd http://127.0.0.1:2379", "etcd embedded ./data 127.0.0.1:2379", "prefix /ufc/v1", "credentials a b", "tls a b c",
		"follow used", "protect 50%", "from edge", "debug", "token {env.X}", "service shop", "idc \"a\nb\" {\n}", "", "x",
	} {
		f.Add(line)
	}
	blocks := []string{
		"{\n\tufc {\n%s\n\t}\n}\n", ":80 {\n\tufc shop {\n%s\n\t}\n}\n", ":80 {\n\tufc_bypass /x {\n%s\n\t}\n}\n",
		":80 {\n\treverse_proxy ufc:80 {\n\t\ttransport ufc {\n\t\t\tservice shop\n%s\n\t\t}\n\t}\n}\n",
	}
	f.Fuzz(func(t *testing.T, line string) {
		if strings.Contains(line, "import") { // reads files
			t.Skip()
		}
		// What has these may leave the block, or not be a Caddyfile at all: then Caddy's own errors come, without a line.
		within := !strings.ContainsAny(line, "{}\"`<\\")
		for _, block := range blocks {
			adapted, err := adapt(fmt.Sprintf(block, line))
			if err != nil {
				if within && !strings.Contains(err.Error(), "Caddyfile:") {
					t.Errorf("%q: no line in %v", line, err)
				}
				continue
			}
			var config struct {
				Apps struct {
					UFC json.RawMessage `json:"ufc"`
				} `json:"apps"`
			}
			if err := json.Unmarshal(adapted, &config); err != nil {
				t.Fatalf("%q: %v", line, err)
			}
			if len(config.Apps.UFC) > 0 {
				if err := caddy.StrictUnmarshalJSON(config.Apps.UFC, new(caddyufc.App)); err != nil {
					t.Errorf("%q: %v", line, err)
				}
			}
		}
	})
}
