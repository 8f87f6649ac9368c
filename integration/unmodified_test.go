package integration

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Programs that know nothing of the mesh: they take a host's name, and the system's resolver asks CoreDNS. Nobody reports, so that
// the services have checks: the DNS itself looks whether instances live.

// resolving is a mesh whose DNS is the system's for programs in a mount namespace of their own.
type resolving struct {
	*mesh
	resolvConf string
}

const checked = "protocol: tcp\ncheck: {interval: 200ms}\nban: {duration: 30s, probe: {timeout: 200ms}}"

// startResolving starts a mesh with its DNS on a free address's port 53, the only one that resolv.conf can mean.
func startResolving(t *testing.T, documents string) *resolving {
	t.Helper()
	if output, err := exec.Command("unshare", "--mount", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf").CombinedOutput(); err != nil {
		t.Skipf("the system's resolver can't be changed for one program: unshare --mount: %v: %s", err, output)
	}
	m := newMesh(t)
	address := fmt.Sprintf("127.53.%d.%d", m.dns>>8, m.dns&0xff)
	if !isFree(address + ":53") {
		t.Skipf("port 53 of %s can't be listened on", address)
	}
	m.startCaddy()
	m.coredns = startProcess(t, "coredns", m.environment(), "bin/coredns", "-conf", m.configure("Corefile",
		replace(t, "ufc.internal:{$UFC_DNS_PORT:1053}", zone+":53"), replace(t, "    bind 127.0.0.1\n", "    bind "+address+"\n")))
	m.untilUp(m.coredns, m.callback)
	m.apply(documents)
	m.untilCurrent()
	return &resolving{m, writeFile(t, m.folder, "resolv.conf", fmt.Sprintf("nameserver %s\nsearch %s\noptions timeout:1 attempts:2\n", address, zone))}
}

// inside is a command for which the mesh's DNS is the system's.
func (r *resolving) inside(command ...string) []string {
	return append([]string{"unshare", "--mount", "sh", "-c", `mount --bind "$0" /etc/resolv.conf && exec "$@"`, r.resolvConf}, command...)
}

// repeated runs a command again and again, in so many loops, until stop, which returns what became of each run, by the time that
// it began. A run that hangs (redis-benchmark's may, when its server dies) is ended after 3 s.
func (r *resolving) repeated(loops int, command ...string) (stop func() *outcomes) {
	r.t.Helper()
	name := filepath.Base(command[0])
	end := filepath.Join(r.folder, "end-"+name)
	const script = `end=$1; shift; while [ ! -e "$end" ]; do began=$(date +%s%N); said=$(timeout 3 "$@" 2>&1); echo "$? $began $said" | tr '\n' ' '; echo; sleep 0.01; done`
	var processes []*process
	for range loops {
		processes = append(processes, startProcess(r.t, name, nil, r.inside(append([]string{"sh", "-c", script, "loop", end}, command...)...)...))
	}
	return func() *outcomes {
		r.t.Helper()
		writeFile(r.t, r.folder, "end-"+name, "")
		all := &outcomes{}
		for _, p := range processes {
			p.wait(30 * time.Second)
			for line := range strings.Lines(p.output()) {
				fields := strings.SplitN(line, " ", 3)
				at, err := strconv.ParseInt(fields[min(1, len(fields)-1)], 10, 64)
				if err != nil {
					r.t.Fatalf("%s: %q", p.name, line)
				}
				all.done++
				if fields[0] != "0" {
					all.failures = append(all.failures, failed{time.Unix(0, at), fmt.Errorf("exit code %s: %s", fields[0], fields[2])})
				}
			}
		}
		return all
	}
}

// survivesUnmodified kills a server while commands are repeated. Of the runs that begin after the ban none may fail.
func (r *resolving) survivesUnmodified(service, victim string, server *process, commands ...[]string) {
	r.t.Helper()
	var stops []func() *outcomes
	for _, command := range commands {
		stops = append(stops, r.repeated(2, command...))
	}
	time.Sleep(700 * time.Millisecond)
	killed := time.Now()
	server.signal(syscall.SIGKILL)
	eventually(r.t, 10*time.Second, func() error { return r.bannedAt(r.callback, service, victim) })
	banned := time.Now()
	time.Sleep(time.Second)
	for i, stop := range stops {
		name, all := filepath.Base(commands[i][0]), stop()
		if late := all.after(banned); len(late) > 0 {
			r.t.Errorf("%s: %d runs failed that began after the ban, the first %s later: %v", name, len(late), late[0].at.Sub(banned), late[0].err)
		}
		if all.done < 4 || len(all.failures) > max(all.done/3, 3) {
			r.t.Errorf("%s: %d runs, %d failed: %v", name, all.done, len(all.failures), all.failures)
		}
		r.t.Logf("%s: %d runs, %d failed; banned after %s", name, all.done, len(all.failures), banned.Sub(killed).Round(time.Millisecond))
	}
}

func TestUnmodifiedRedis(t *testing.T) {
	t.Parallel()
	port := freePort(t, redisAddresses...)
	servers := startRedises(t, redisAddresses, port)
	r := startResolving(t, documents("redis-main", checked, at(redisAddresses, port)...))
	p := fmt.Sprint(port)
	r.survivesUnmodified("redis-main", "127.0.0.3:"+p, servers["127.0.0.3"],
		[]string{"redis-cli", "-e", "-h", "redis-main", "-p", p, "SET", "key", "value"},
		[]string{"redis-benchmark", "-h", "redis-main", "-p", p, "-c", "6", "-n", "600", "-t", "set,get", "-q"})

	// A Go program may ask the DNS instead of the agent: its callback listener hands out, too.
	conn, err := newClient(t, freePort(t), r.callback).Dial(t.Context(), "redis-main")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
}

func TestUnmodifiedMariaDB(t *testing.T) {
	t.Parallel()
	port := freePort(t, mariadbAddresses...)
	servers := startMariaDBs(t, mariadbAddresses, port)
	r := startResolving(t, documents("mysql-main", checked, at(mariadbAddresses, port)...))
	sysbench := func(host string, more ...string) []string {
		return append([]string{"sysbench", "oltp_point_select", "--mysql-host=" + host, fmt.Sprint("--mysql-port=", port), "--mysql-user=app",
			"--mysql-password=app", "--mysql-db=app", "--tables=1", "--table-size=100"}, more...)
	}
	for _, address := range mariadbAddresses {
		mustRun(t, nil, "", sysbench(address, "prepare")...)
	}
	// sysbench connects once a run. With --mysql-ignore-errors it would connect anew, but its client library crashes there.
	r.survivesUnmodified("mysql-main", fmt.Sprintf("127.0.0.13:%d", port), servers["127.0.0.13"],
		mariadbClient("mysql-main", port, "SELECT 1"), sysbench("mysql-main", "--threads=3", "--events=60", "--time=5", "run"))
}

func TestUnmodifiedPostgreSQL(t *testing.T) {
	t.Parallel()
	port := freePort(t, postgresAddresses...)
	servers := startPostgreses(t, postgresAddresses, port)
	r := startResolving(t, documents("pg-main", checked, at(postgresAddresses, port)...))
	r.survivesUnmodified("pg-main", fmt.Sprintf("127.0.0.23:%d", port), servers["127.0.0.23"], psql(t, "pg-main", port, "SELECT 1"))
}

// The package that makes the names private is the kernel's; what the tests rely on is that this machine keeps its own resolver.
func TestResolverStays(t *testing.T) {
	t.Parallel()
	before, err := os.ReadFile("/etc/resolv.conf")
	if err != nil {
		t.Skip(err)
	}
	r := startResolving(t, documents("redis-main", "protocol: tcp", "127.0.0.2:6379"))
	if got := mustRun(t, nil, "", r.inside("getent", "ahostsv4", "redis-main")...); !strings.Contains(got, "127.0.0.2 ") {
		t.Errorf("getent inside: %s", got)
	}
	if after, err := os.ReadFile("/etc/resolv.conf"); err != nil || string(after) != string(before) {
		t.Errorf("/etc/resolv.conf has become %q, %v", after, err)
	}
}
