package corednsufc

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/coredns/coredns/core/dnsserver"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/file"
	"github.com/prometheus/client_golang/prometheus"
)

func readme(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Every example Corefile starts.
func TestReadmeExamples(t *testing.T) {
	text := readme(t)
	examples := regexp.MustCompile("(?ms)^~~~ corefile\n(.*?)^~~~$").FindAllStringSubmatch(text, -1)
	if len(examples) < 3 {
		t.Fatalf("found %d examples", len(examples))
	}
	t.Chdir(t.TempDir()) // the files that the examples name
	files := map[string]string{
		"example.org.zone": "example.org. IN SOA ns.example.org. admin.example.org. 1 2 3 4 5\nexample.org. IN NS ns.example.org.\n",
		"ca.pem":           certificate(t),
	}
	for name, content := range files {
		if err := os.WriteFile(name, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("UFC_TOKEN", "")
	port := dnsserver.Port
	t.Cleanup(func() { dnsserver.Port = port })
	for _, example := range examples {
		c := corefile{address: freeAddress(t), callback: freeAddress(t)}
		_, dnsserver.Port, _ = strings.Cut(c.address, ":")
		body := example[1]
		for port, address := range map[string]string{":1053": c.address, "127.0.0.1:8889": c.callback} {
			if strings.HasPrefix(port, ":") {
				_, number, _ := strings.Cut(address, ":")
				address = ":" + number
			}
			body = strings.ReplaceAll(body, port, address) // those of the examples may be taken on this machine
		}
		for _, address := range []string{"127.0.0.1:8181", "127.0.0.1:9153"} {
			body = strings.ReplaceAll(body, address, freeAddress(t))
		}
		t.Run("", func(t *testing.T) { startServer(t, c, body) })
	}
}

// certificate returns one that etcd's could be checked by.
func certificate(t *testing.T) string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// The sections that CoreDNS wants of a plugin's README stand in its order.
func TestReadmeSections(t *testing.T) {
	text := readme(t)
	at := 0
	for _, section := range []string{"# ufc\n", "## Name\n", "## Description\n", "## Syntax\n", "## Metrics\n", "## Ready\n", "## Examples\n", "## See Also\n", "## Bugs\n"} {
		found := strings.Index(text[at:], section)
		if found < 0 {
			t.Fatalf("%q is missing, or too early", section)
		}
		at += found
	}
}

// The README's syntax is the parser's, option by option and in its words.
func TestReadmeSyntax(t *testing.T) {
	_, after, _ := strings.Cut(readme(t), "## Syntax\n")
	block, explained, _ := strings.Cut(after, "~~~\n\n")
	var documented []string
	for line := range strings.Lines(block) {
		if name, usage, _ := strings.Cut(strings.TrimSpace(line), " "); strings.HasPrefix(line, "    ") {
			documented = append(documented, name)
			if want := options[name].usage; usage != want {
				t.Errorf("%s: the README says %q, the parser %q", name, usage, want)
			}
			if !strings.Contains(explained, "* `"+name+"` ") {
				t.Errorf("%s: isn't explained", name)
			}
		}
	}
	slices.Sort(documented)
	if !slices.Equal(documented, optionNames()) {
		t.Errorf("the README has %v, the parser %v", documented, optionNames())
	}
}

// The README tells of every metric.
func TestReadmeMetrics(t *testing.T) {
	text := readme(t)
	c := newCorefile(t)
	s := startServer(t, c, c.block("ufc.internal", ""))
	metrics := make(chan *prometheus.Desc, 100)
	s.block().mesh.Load().Metrics().Describe(metrics)
	close(metrics)
	name := regexp.MustCompile(`fqName: "([^"]+)"`)
	count := 0
	for desc := range metrics {
		count++
		if found := name.FindStringSubmatch(desc.String()); !strings.Contains(text, "`"+found[1]+"{") {
			t.Errorf("the README doesn't tell of %s", found[1])
		}
	}
	if count == 0 {
		t.Error("the agent has no metrics")
	}
}
