package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

// etcdCommand is the argument that makes this program etcd: its server, or with further arguments its gRPC proxy.
const etcdCommand = "etcd"

func serveEtcd(args []string) {
	os.Args = args // the proxy's part looks there
	etcdmain.Main(args)
}

// server is a process.
type server struct {
	name    string
	address string // where it answers
	process *exec.Cmd
	output  bytes.Buffer
	admin   string // address of the admin endpoint; empty: none
	begun   time.Time
}

// start starts a program and waits until it listens at the address.
func (b *bench) start(name, address, program string, args ...string) (*server, error) {
	s := &server{name: name, address: address, process: exec.Command(program, args...), begun: time.Now()}
	s.process.Stdout, s.process.Stderr = &s.output, &s.output
	if err := s.process.Start(); err != nil {
		return nil, err
	}
	b.running = append(b.running, s)
	err := s.await(func() error {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	return s, err
}

// await asks again and again until there is no error.
func (s *server) await(ask func() error) error {
	var err error
	for end := time.Now().Add(60 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if err = ask(); err == nil {
			return nil
		}
	}
	return fmt.Errorf("%s at %s: %w\n%s", s.name, s.address, err, s.output.Bytes())
}

func (b *bench) stop(s *server) {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	b.running = slices.DeleteFunc(b.running, func(other *server) bool { return other == s })
}

func (b *bench) stopAll() {
	for len(b.running) > 0 {
		b.stop(b.running[0])
	}
}

// startEtcd starts etcd. It doesn't wait for the disk, which is no part of what is measured.
func (b *bench) startEtcd() (*server, error) {
	folder, err := b.folder()
	if err != nil {
		return nil, err
	}
	client := free()
	s, err := b.start("etcd", client, os.Args[0], etcdCommand, "--data-dir", folder, "--unsafe-no-fsync", "--log-level", "error",
		"--listen-client-urls", "http://"+client, "--advertise-client-urls", "http://"+client,
		"--listen-peer-urls", "http://"+free(), "--quota-backend-bytes", strconv.Itoa(8<<30),
		"--auto-compaction-mode", "periodic", "--auto-compaction-retention", "1m",
		"--watch-progress-notify-interval", progressInterval.String())
	if err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // until it has a leader
	return s, nil
}

// startProxy starts etcd's gRPC proxy.
func (b *bench) startProxy() (*server, error) {
	folder, err := b.folder()
	if err != nil {
		return nil, err
	}
	address := free()
	return b.start("proxy", address, os.Args[0], etcdCommand, "grpc-proxy", "start", "--endpoints", "http://"+b.etcd.address,
		"--listen-addr", address, "--advertise-client-url", address, "--data-dir", folder)
}

// metric returns the sum of a metric of etcd or of its proxy.
func (s *server) metric(name string) (sum float64, err error) {
	resp, err := http.Get("http://" + s.address + "/metrics")
	if err != nil {
		return 0, err
	}
	defer resp.Body.Close()
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		found, value, _ := strings.Cut(lines.Text(), " ")
		if found, _, _ = strings.Cut(found, "{"); found == name {
			number, err := strconv.ParseFloat(value, 64)
			if err != nil {
				return 0, err
			}
			sum += number
		}
	}
	return sum, lines.Err()
}

// free returns an address where nobody listens.
func free() string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "127.0.0.1:0"
	}
	defer listener.Close()
	return listener.Addr().String()
}

func portOf(address string) string { return address[strings.LastIndexByte(address, ':')+1:] }

// cpu returns the CPU time that the process has used: utime and stime of proc(5), in hundredths of a second.
func (s *server) cpu() (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("%s: /proc/PID/stat: %q", s.name, data)
	}
	user, err := strconv.Atoi(fields[11])
	system, failed := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, failed)
}

// resident returns the process's memory in MiB, of the kernel's count: VmRSS, or VmHWM, the most that it had.
func (s *server) resident(field string) (float64, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", s.process.Process.Pid))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(data)) {
		if value, found := strings.CutPrefix(line, field+":"); found {
			kilobytes, err := strconv.Atoi(strings.Fields(value)[0])
			return float64(kilobytes) / 1024, err
		}
	}
	return 0, fmt.Errorf("%s: no %s in /proc/PID/status", s.name, field)
}

// write puts a file into a new directory.
func (b *bench) write(name, content string) (string, error) {
	folder, err := b.folder()
	if err != nil {
		return "", err
	}
	path := filepath.Join(folder, name)
	return path, os.WriteFile(path, []byte(content), 0o600)
}
