package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
)

// demo are the services of the quickstart: one small HTTP server for each instance on 127.0.0.1 in the examples. Other
// addresses are only registered.
type demo struct {
	folder  string // of the documents to apply
	servers []*demoServer
	log     *os.File
}

type demoServer struct {
	name    string // hello-1
	address netip.AddrPort
	server  *http.Server
}

// readDemo reads the documents in folder. Where UFC_DEMO_PORT moves the servers, changed copies are written into the data
// folder and applied instead.
func readDemo(folder string, s *settings) (*demo, error) {
	files, err := filepath.Glob(filepath.Join(folder, "*.yaml"))
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, fmt.Errorf("no documents in %s: is this the project's top folder?", folder)
	}
	d := &demo{folder: folder}
	lowest := 0
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		documents, err := model.Read(file, data)
		if err != nil {
			return nil, err
		}
		for _, document := range documents {
			d.add(document)
		}
	}
	for _, server := range d.servers {
		if port := int(server.address.Port()); lowest == 0 || port < lowest {
			lowest = port
		}
	}
	if lowest == 0 || s.Demo.Number == lowest {
		return d, nil
	}
	return d, d.move(s.Demo.Number-lowest, files, filepath.Join(s.Data, "examples"))
}

func (d *demo) add(document model.Document) {
	if document.Kind != model.KindInstances {
		return
	}
	for i, instance := range document.Instances.Instances {
		if instance.Address.Addr() != netip.MustParseAddr("127.0.0.1") {
			continue
		}
		d.servers = append(d.servers, &demoServer{
			name:    fmt.Sprintf("%s-%d", document.Name, i+1),
			address: instance.Address,
		})
	}
}

// move adds shift to the servers' ports, and to those in copies of the documents.
func (d *demo) move(shift int, files []string, folder string) error {
	var pairs []string
	for _, server := range d.servers {
		moved := int(server.address.Port()) + shift
		if moved < 1 || moved > 65535 {
			return fmt.Errorf("UFC_DEMO_PORT: %s would listen on port %d, which is not between 1 and 65535", server.name, moved)
		}
		old := server.address.String()
		server.address = netip.AddrPortFrom(server.address.Addr(), uint16(moved))
		pairs = append(pairs, old, server.address.String())
	}
	replacer := strings.NewReplacer(pairs...)
	if err := os.MkdirAll(folder, 0o755); err != nil {
		return err
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		copied := filepath.Join(folder, filepath.Base(file))
		if err := os.WriteFile(copied, []byte(replacer.Replace(string(data))), 0o644); err != nil {
			return err
		}
	}
	d.folder = folder
	return nil
}

// ports are those of the servers.
func (d *demo) ports() []port {
	var ports []port
	for _, server := range d.servers {
		ports = append(ports, port{
			Number:   int(server.address.Port()),
			Variable: "UFC_DEMO_PORT",
			Use:      "the demo server " + server.name,
		})
	}
	return ports
}

// start starts the servers; their requests are logged to the file at path.
func (d *demo) start(path string) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	d.log = file
	logger := log.New(file, "", log.LstdFlags|log.Lmicroseconds)
	for _, server := range d.servers {
		listener, err := net.Listen("tcp", server.address.String())
		if err != nil {
			return err
		}
		server.server = &http.Server{Handler: server.handler(logger), ErrorLog: logger}
		go func() { // ended by stop
			if err := server.server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
				logger.Printf("%s: %v", server.name, err)
			}
		}()
	}
	return nil
}

// stop ends the servers, and what is still under way in them.
func (d *demo) stop() {
	for _, server := range d.servers {
		if server.server != nil {
			server.server.Close()
		}
	}
	d.log.Close()
}

// handler answers with the server's name and the headers by which a callee learns about the call.
func (s *demoServer) handler(logger *log.Logger) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		logger.Printf("%s: %s %s from %q", s.name, r.Method, r.URL, r.Header.Get("x-ufc-self-service-name"))
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		var body bytes.Buffer
		fmt.Fprintf(&body, "%s at %s: %s %s\n", s.name, s.address, r.Method, r.URL)
		for _, name := range []string{"Host", "X-Ufc-Self-Service-Name", "X-Ufc-Trace-Id", "X-Ufc-Attempt", "X-Forwarded-For", "Via"} {
			value := r.Header.Get(name)
			if name == "Host" {
				value = r.Host
			}
			if value != "" {
				fmt.Fprintf(&body, "  %s: %s\n", strings.ToLower(name), value)
			}
		}
		_, _ = w.Write(body.Bytes()) // an error means that the client has gone
	})
}

// apply registers the documents by the product's own command.
func (d *demo) apply(ctx context.Context, s *settings) error {
	cmd := exec.CommandContext(ctx, "bin/caddy", "ufc", "apply", "-f", d.folder)
	cmd.Env = s.environment()
	output, err := cmd.CombinedOutput()
	if err != nil {
		return fmt.Errorf("caddy ufc apply -f %s: %w\n%s", d.folder, err, output)
	}
	return nil
}
