package model

import (
	"fmt"
	"os"
	"strings"
	"testing"
)

func BenchmarkParseInstance(b *testing.B) {
	f := func(name, rest string) {
		value := []byte(`{"address":"10.0.0.1:8080"` + rest + `}`)
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := ParseInstance("10.0.0.1:8080", value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("plain", `,"idc":"bj-a","weight":100,"labels":{"version":"v1"},"state":"up"`)
	f("bare", ``)
	f("escaped", `,"idc":"bj-a","weight":100,"labels":{"version":"v\u0031"},"state":"up"`)
	f("unknown", `,"idc":"bj-a","weight":100,"labels":{"version":"v1"},"zone":"up"`)
}

// Every instance's labels are its own: nothing can be shared, and the table begins anew again and again.
func BenchmarkParseInstanceUnshared(b *testing.B) {
	values := make([][]byte, 8192)
	for i := range values {
		values[i] = fmt.Appendf(nil, `{"address":"10.0.0.1:8080","idc":"bj-a","weight":100,"labels":{"pod":"p%d"},"state":"up"}`, i)
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if _, _, err := ParseInstance("10.0.0.1:8080", values[i%len(values)]); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkParseService(b *testing.B) {
	f := func(name string, value []byte) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := ParseService("pcs-upload", value); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	f("bare", []byte(`{"kind":"Service","name":"pcs-upload"}`))
	f("full", designDocuments(b)[0].Value)
}

func BenchmarkRead(b *testing.B) {
	var instances strings.Builder
	instances.WriteString("kind: Instances\nservice: shop\ninstances:\n")
	for i := range 10_000 {
		fmt.Fprintf(&instances, "- {address: '10.0.%d.%d:80', idc: bj-a, labels: {version: v1}}\n", i>>8, i&255)
	}
	// A list of faults must not take the square of its length.
	var drained strings.Builder
	drained.WriteString("kind: Topology\nidcs: {a: {logical: n}}\ndrained: [")
	for i := range 100_000 {
		fmt.Fprintf(&drained, "b%d,", i)
	}
	drained.WriteString("]")
	f := func(name string, data []byte) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			b.SetBytes(int64(len(data)))
			for b.Loop() {
				if _, err := Read("f.yaml", data); (err != nil) != (name == "faults") {
					b.Fatal(err)
				}
			}
		})
	}
	design, err := os.ReadFile("testdata/design.yaml")
	if err != nil {
		b.Fatal(err)
	}
	f("design", design)
	f("instances", []byte(instances.String()))
	f("faults", []byte(drained.String()))
}
