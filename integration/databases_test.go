package integration

import (
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Database servers, with databases that are thrown away. Neither runs as root, so that where the tests do, they get the user
// that their package has made.

// ownFolder makes a folder that a server's user can write to. Those of t.TempDir stand below one that only root may enter.
func ownFolder(t *testing.T, name string) string {
	t.Helper()
	folder, err := os.MkdirTemp("", "ufc-"+name+"-") //nolint:usetesting // t.TempDir's stand below a folder of root's
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(folder); err != nil {
			t.Error(err)
		}
	})
	if os.Getuid() == 0 {
		owner, err := user.Lookup(name)
		if err != nil {
			t.Fatalf("the package of the server has a user: %v", err)
		}
		uid, _ := strconv.Atoi(owner.Uid)
		gid, _ := strconv.Atoi(owner.Gid)
		if err := os.Chown(folder, uid, gid); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// as is a command as another user, if the tests run as root. The command keeps the process's id.
func as(name string, command ...string) []string {
	if os.Getuid() != 0 {
		return command
	}
	return append([]string{"setpriv", "--reuid", name, "--regid", name, "--init-groups", "--"}, command...)
}

// startMariaDBs starts a server on each address, with a database app of a user app, whose password is app.
func startMariaDBs(t *testing.T, addresses []string, port int) map[string]*process {
	t.Helper()
	folder := ownFolder(t, "mysql")
	setUp := writeFile(t, folder, "set-up.sql", `CREATE DATABASE app;
CREATE USER app@'%' IDENTIFIED BY 'app';
GRANT ALL ON app.* TO app@'%';
`)
	if err := os.Chmod(setUp, 0o644); err != nil {
		t.Fatal(err)
	}
	const small = "--innodb-log-file-size=4M"
	mustRun(t, nil, "", as("mysql", "mariadb-install-db", "--no-defaults", "--auth-root-authentication-method=normal",
		"--skip-test-db", "--skip-name-resolve", small, "--datadir="+filepath.Join(folder, "data"))...)
	servers := make([]*process, len(addresses))
	for i, address := range addresses {
		data := filepath.Join(folder, address)
		mustRun(t, nil, "", as("mysql", "cp", "-r", filepath.Join(folder, "data"), data)...)
		// By default hosts whose connections end before the handshake, as a probe's do, are shut out after a hundred of them;
		// without names there is no list of hosts.
		servers[i] = startProcess(t, "mariadb-"+address, nil, as("mysql", "mariadbd", "--no-defaults", "--datadir="+data,
			"--socket="+data+".sock", "--pid-file="+data+".pid", "--bind-address="+address, fmt.Sprint("--port=", port),
			"--init-file="+setUp, "--skip-name-resolve", "--skip-log-bin", small, "--innodb-buffer-pool-size=16M",
			"--innodb-flush-log-at-trx-commit=0", "--innodb-doublewrite=0")...)
	}
	for _, address := range addresses {
		eventually(t, 30*time.Second, func() error {
			output, code := run(t, 10*time.Second, nil, "", mariadbClient(address, port, "SELECT 1")...)
			if code != 0 {
				return fmt.Errorf("mariadb -h %s: %s", address, output)
			}
			return nil
		})
	}
	return byAddress(addresses, servers)
}

func mariadbClient(host string, port int, statement string) []string {
	return []string{"mariadb", "--no-defaults", "--protocol=tcp", "-h", host, "-P", fmt.Sprint(port), "-u", "app", "-papp",
		"--connect-timeout=2", "-N", "-B", "-e", statement, "app"}
}

// startPostgreses starts a server on each address, with a database and a superuser app, who needs no password.
func startPostgreses(t *testing.T, addresses []string, port int) map[string]*process {
	t.Helper()
	folder := ownFolder(t, "postgres")
	template := filepath.Join(folder, "data")
	mustRun(t, []string{"LC_ALL=C"}, "", as("postgres", postgresProgram(t, "initdb"), "-D", template, "-U", "app", "-A", "trust", "--no-sync")...)
	servers := make([]*process, len(addresses))
	for i, address := range addresses {
		data := filepath.Join(folder, address)
		mustRun(t, nil, "", as("postgres", "cp", "-r", template, data)...)
		servers[i] = startProcess(t, "postgres-"+address, nil, as("postgres", postgresProgram(t, "postgres"), "-D", data,
			"-p", fmt.Sprint(port), "-c", "listen_addresses="+address, "-c", "unix_socket_directories=", "-c", "fsync=off",
			"-c", "shared_buffers=16MB", "-c", "max_connections=50", "-c", "autovacuum=off")...)
		t.Cleanup(func() { endPostgres(t, servers[i], data) })
	}
	for _, address := range addresses {
		eventually(t, 30*time.Second, func() error {
			output, code := run(t, 10*time.Second, nil, "", psql(t, address, port, "SELECT 1")...)
			if code != 0 {
				return fmt.Errorf("psql -h %s: %s", address, output)
			}
			return nil
		})
	}
	return byAddress(addresses, servers)
}

func psql(t *testing.T, host string, port int, statement string) []string {
	return []string{postgresProgram(t, "psql"), "-X", "-At", "-c", statement, fmt.Sprintf("host=%s port=%d user=app dbname=postgres connect_timeout=2", host, port)}
}

// postgresProgram finds a program of PostgreSQL. Debian keeps the server's out of the path, and has a slow script before the others.
func postgresProgram(t *testing.T, name string) string {
	t.Helper()
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name); len(found) > 0 {
		return found[len(found)-1]
	}
	path, err := exec.LookPath(name)
	if err != nil {
		t.Fatalf("%s is not installed, see .ci/install-tools: %v", name, err)
	}
	return path
}

// endPostgres ends a server's children too, and the segment of shared memory that outlives one that was killed.
func endPostgres(t *testing.T, server *process, data string) {
	_ = server.cmd.Process.Signal(syscall.SIGQUIT) // an error says that it has ended
	select {
	case <-server.done:
	case <-time.After(5 * time.Second):
		t.Error("postgres goes on after SIGQUIT")
	}
	lock, err := os.ReadFile(filepath.Join(data, "postmaster.pid"))
	if err != nil {
		return // it has cleaned up
	}
	for line := range strings.Lines(string(lock)) { // the one of two numbers: key and id
		if numbers := strings.Fields(line); len(numbers) == 2 {
			if output, err := exec.Command("ipcrm", "-m", numbers[1]).CombinedOutput(); err != nil {
				t.Logf("ipcrm: %s", output)
			}
		}
	}
}

func byAddress(addresses []string, servers []*process) map[string]*process {
	all := map[string]*process{}
	for i, address := range addresses {
		all[address] = servers[i]
	}
	return all
}

// startRedises starts a server on each address.
func startRedises(t *testing.T, addresses []string, port int) map[string]*process {
	t.Helper()
	servers := make([]*process, len(addresses))
	for i, address := range addresses {
		servers[i] = startRedis(t, address, port)
	}
	return byAddress(addresses, servers)
}

// at are the addresses with a port.
func at(addresses []string, port int) []string {
	var all []string
	for _, address := range addresses {
		all = append(all, fmt.Sprintf("%s:%d", address, port))
	}
	return all
}

// outcomes counts what became of a load's requests.
type outcomes struct {
	mu       sync.Mutex
	done     int
	failures []failed
}

type failed struct {
	at  time.Time
	err error
}

func (o *outcomes) count(err error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.done++
	if err != nil {
		o.failures = append(o.failures, failed{time.Now(), err})
	}
}

// after are the failures since a time.
func (o *outcomes) after(since time.Time) (late []failed) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, f := range o.failures {
		if f.at.After(since) {
			late = append(late, f)
		}
	}
	return late
}

// survives kills a server of a service under a load, by so many loops of request. The mesh must ban it, at most so many
// requests may fail, and none after the ban; those are let off that were out when it came, for grace.
func (m *mesh) survives(port int, service, victim string, server *process, loops, most int, grace time.Duration, request func() error) {
	m.t.Helper()
	var counted outcomes
	stop := make(chan struct{})
	var workers sync.WaitGroup
	for range loops {
		workers.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					counted.count(request())
					time.Sleep(time.Millisecond)
				}
			}
		})
	}
	end := sync.OnceFunc(func() {
		close(stop)
		workers.Wait()
	})
	defer end()
	time.Sleep(500 * time.Millisecond)
	if early := counted.after(time.Time{}); len(early) > 0 {
		m.t.Errorf("%d requests failed before the kill, the first: %v", len(early), early[0].err)
	}
	killed := time.Now()
	server.signal(syscall.SIGKILL)
	eventually(m.t, 10*time.Second, func() error { return m.bannedAt(port, service, victim) })
	banned := time.Now()
	time.Sleep(grace + 700*time.Millisecond)
	end()
	all := counted.after(time.Time{})
	if late := counted.after(banned.Add(grace)); len(late) > 0 {
		m.t.Errorf("%d requests failed after the ban, the first %s later: %v", len(late), late[0].at.Sub(banned), late[0].err)
	}
	if len(all) > most {
		m.t.Errorf("%d requests failed, more than %d; the first: %v", len(all), most, all[0].err)
	}
	if counted.done < 100 {
		m.t.Errorf("only %d requests, which proves nothing", counted.done)
	}
	last := "none"
	if len(all) > 0 {
		last = all[len(all)-1].at.Sub(killed).Round(time.Millisecond).String()
	}
	m.t.Logf("%s: %d requests, %d failed, the last after %s; banned after %s", service, counted.done, len(all), last, banned.Sub(killed).Round(time.Millisecond))
}
