// Command bench compares through mode with Caddy's own reverse_proxy: both in processes of their own, before the same four
// instances, under the same load, in turn. It prints each one's CPU time for a request, and the ratio. Bypass mode over HTTP is
// measured beside them: a hand-out, a callback, and a callback of a hundred results.
//
// The load and the instances are in this process, whose CPU time doesn't count. It needs Linux, for /proc, and bin/caddy.
package main

import (
	"bufio"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

var (
	binary  = flag.String("caddy", "bin/caddy", "the binary to measure")
	coredns = flag.String("coredns", "bin/coredns", "the binary whose callback listener is measured")
	conns   = flag.Int("conns", 64, "keep-alive connections of the load")
	each    = flag.Duration("each", 3*time.Second, "how long each is measured, each round")
	rounds  = flag.Int("rounds", 5, "how often each is measured; the median counts")
)

func main() {
	flag.Parse()
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// target is a proxy, or a part of one, under measurement.
type target struct {
	name, address string
	process       *exec.Cmd
	request       string    // as it goes over the network
	status        int       // that answers it
	cpu, rate     []float64 // by round: microseconds a request, requests a second
}

// through asks for a page through a proxy.
func (t *target) through() {
	t.status = http.StatusOK
	t.request = "GET /hello HTTP/1.1\r\nHost: " + t.address + "\r\nx-ufc-service-name: demo\r\nx-ufc-self-service-name: bench\r\n\r\n"
}

// beside is another kind of request to the same process.
func (t *target) beside(name, command, body string, status int) *target {
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	request := method + " /bypass?command=" + command + " HTTP/1.1\r\nHost: " + t.address + "\r\n"
	if body != "" {
		request += "Content-Type: application/json\r\nContent-Length: " + strconv.Itoa(len(body)) + "\r\n"
	}
	return &target{name: name, address: t.address, process: t.process, request: request + "\r\n" + body, status: status}
}

func run() error {
	dir, err := os.MkdirTemp("", "ufc-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	var instances []string
	for range 4 {
		address, err := serve()
		if err != nil {
			return err
		}
		instances = append(instances, address)
	}
	stock, err := start(dir, "reverse_proxy", func(address string) string {
		return "{\n admin off\n auto_https off\n}\nhttp://" + address + " {\n reverse_proxy " + strings.Join(instances, " ") +
			" {\n  lb_policy round_robin\n  transport http {\n   keepalive_idle_conns_per_host 256\n  }\n }\n}\n"
	})
	if err != nil {
		return err
	}
	defer stop(stock)
	etcd := free()
	ufc, err := start(dir, "ufc", func(address string) string {
		return "{\n admin off\n ufc {\n  etcd embedded " + filepath.Join(dir, "etcd") + " " + etcd + "\n }\n}\nhttp://:" +
			address[strings.LastIndexByte(address, ':')+1:] + " {\n bind ufc/127.0.0.1\n ufc_bypass /bypass\n ufc\n}\n"
	})
	if err != nil {
		return err
	}
	defer stop(ufc)
	if err := apply(dir, etcd, instances); err != nil {
		return err
	}
	listener, err := startDNS(dir, etcd)
	if err != nil {
		return err
	}
	defer stop(listener)
	stock.through()
	ufc.through()
	result := `{"service":"demo","backend":"` + instances[0] + `","from":"bench","result":"ok","latency_ms":1.5,"code":200}`
	targets := []*target{
		stock, ufc,
		ufc.beside("get", "get&service=demo&from=bench", "", http.StatusOK),
		ufc.beside("callback", "callback", result, http.StatusNoContent),
		ufc.beside("callback, 100", "callback", "["+result+strings.Repeat(","+result, 99)+"]", http.StatusNoContent),
		listener.beside("DNS get", "get&service=demo&from=bench", "", http.StatusOK),
		listener.beside("DNS callback", "callback", result, http.StatusNoContent),
	}
	for range *rounds {
		for _, t := range targets {
			if err := t.measure(); err != nil {
				return fmt.Errorf("%s: %w", t.name, err)
			}
		}
	}
	fmt.Printf("%-14s %10s %12s %16s %8s\n", "", "requests/s", "CPU µs/req", "/ reverse_proxy", "/ ufc")
	for _, t := range targets {
		cpu := median(t.cpu)
		fmt.Printf("%-14s %10.0f %12.1f %16.2f %8.2f\n", t.name, median(t.rate), cpu, cpu/median(stock.cpu), cpu/median(ufc.cpu))
	}
	return nil
}

func median(values []float64) float64 { return slices.Sorted(slices.Values(values))[len(values)/2] }

const answer = "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 66\r\n\r\n" +
	"hello from a backend, hello from a backend, hello from a backend.\n"

// serve starts an instance that answers every request head with one write.
func serve() (string, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	go func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				reader := bufio.NewReader(conn)
				for {
					if _, err := http.ReadRequest(reader); err != nil {
						return
					}
					if _, err := io.WriteString(conn, answer); err != nil {
						return
					}
				}
			}()
		}
	}()
	return listener.Addr().String(), nil
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

func start(dir, name string, config func(address string) string) (*target, error) {
	t := &target{name: name, address: free()}
	file := filepath.Join(dir, name+".Caddyfile")
	if err := os.WriteFile(file, []byte(config(t.address)), 0o600); err != nil {
		return nil, err
	}
	t.process = exec.Command(*binary, "run", "--config", file, "--adapter", "caddyfile")
	return t, t.await()
}

// startDNS starts CoreDNS, for its callback listener.
func startDNS(dir, etcd string) (*target, error) {
	t := &target{name: "DNS", address: free()}
	file, port := filepath.Join(dir, "Corefile"), free()
	corefile := "bench.test:" + port[strings.LastIndexByte(port, ':')+1:] + " {\n bind 127.0.0.1\n ufc {\n  etcd http://" + etcd +
		"\n  callback " + t.address + "\n }\n}\n"
	if err := os.WriteFile(file, []byte(corefile), 0o600); err != nil {
		return nil, err
	}
	t.process = exec.Command(*coredns, "-quiet", "-conf", file)
	if err := t.await(); err != nil {
		return nil, err
	}
	time.Sleep(time.Second) // until it follows etcd
	return t, nil
}

// await starts the process, and waits until it answers.
func (t *target) await() error {
	if err := t.process.Start(); err != nil {
		return err
	}
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		conn, err := net.Dial("tcp", t.address)
		if err == nil {
			return conn.Close()
		}
		if time.Now().After(deadline) {
			stop(t)
			return fmt.Errorf("%s doesn't start: %w", t.name, err)
		}
	}
}

func stop(t *target) {
	_ = t.process.Process.Kill()
	_ = t.process.Wait()
}

func apply(dir, etcd string, instances []string) error {
	documents := "kind: Service\nname: demo\n---\nkind: Service\nname: bench\n---\nkind: Instances\nservice: demo\ninstances:\n"
	for _, address := range instances {
		documents += "  - {address: " + address + "}\n"
	}
	file := filepath.Join(dir, "demo.yaml")
	if err := os.WriteFile(file, []byte(documents), 0o600); err != nil {
		return err
	}
	output, err := exec.Command(*binary, "ufc", "apply", "--etcd", "http://"+etcd, "-f", file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("apply: %w: %s", err, output)
	}
	time.Sleep(time.Second) // until the agent follows
	return nil
}

// measure loads a target for a while.
func (t *target) measure() error {
	before, err := cpuTime(t.process.Process.Pid)
	if err != nil {
		return err
	}
	var requests atomic.Int64
	var failed atomic.Pointer[error]
	var load sync.WaitGroup
	end := time.Now().Add(*each)
	for range *conns {
		load.Go(func() {
			if err := t.hammer(end, &requests); err != nil {
				failed.Store(&err)
			}
		})
	}
	load.Wait()
	if err := failed.Load(); err != nil {
		return *err
	}
	after, err := cpuTime(t.process.Process.Pid)
	if err != nil {
		return err
	}
	n := float64(requests.Load())
	t.cpu = append(t.cpu, float64((after-before).Microseconds())/n)
	t.rate = append(t.rate, n/each.Seconds())
	return nil
}

func (t *target) hammer(end time.Time, requests *atomic.Int64) error {
	conn, err := net.Dial("tcp", t.address)
	if err != nil {
		return err
	}
	defer conn.Close()
	reader := bufio.NewReader(conn)
	for time.Now().Before(end) {
		if _, err := io.WriteString(conn, t.request); err != nil {
			return err
		}
		resp, err := http.ReadResponse(reader, nil)
		if err != nil {
			return err
		}
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if err != nil || resp.StatusCode != t.status {
			return errors.Join(err, errors.New(resp.Status))
		}
		requests.Add(1)
	}
	return nil
}

// cpuTime returns the CPU time that a process has used: the fields utime and stime of proc(5), in hundredths of a second.
func cpuTime(pid int) (time.Duration, error) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, err
	}
	_, rest, _ := strings.Cut(string(data), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("/proc/%d/stat: %q", pid, data)
	}
	user, err := strconv.Atoi(fields[11])
	system, failed := strconv.Atoi(fields[12])
	return time.Duration(user+system) * 10 * time.Millisecond, errors.Join(err, failed)
}
