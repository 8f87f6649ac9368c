package integration

import (
	"fmt"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"
)

// instanceAddress is the variable that turns this test program into an instance, which can be killed like one.
const instanceAddress = "UFC_TEST_INSTANCE"

// serveInstance answers every request with its address in x-backend, after long enough that some are always under way.
func serveInstance(address string) int {
	err := http.ListenAndServe(address, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		time.Sleep(5 * time.Millisecond)
		w.Header().Set("X-Backend", address)
		_, _ = w.Write([]byte("ok"))
	}))
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// instance is an instance in a process of its own.
type instance struct {
	*process
	address string
}

func startInstance(t testing.TB) *instance {
	t.Helper()
	port := freePort(t)
	i := &instance{address: fmt.Sprintf("127.0.0.1:%d", port)}
	i.process = startProcess(t, "instance", []string{instanceAddress + "=" + i.address}, os.Args[0])
	eventually(t, 20*time.Second, func() error { return dial(port) })
	return i
}

// gets is load by GETs in so many loops, over kept connections, all of which have to be answered with 200.
func (m *mesh) gets(service string, loops int) *load {
	return startLoad(m.t, loops, func() error {
		a, err := m.get(service, "/")
		if err == nil && a.status != http.StatusOK {
			err = fmt.Errorf("status %d: %s", a.status, a.body)
		}
		return err
	})
}

// What is under way on an instance that dies is sent to another one, if that is safe; what comes after never gets there.
func TestInstanceKilledUnderLoad(t *testing.T) {
	t.Parallel()
	killed, other := startInstance(t), startInstance(t)
	m := startAgent(t, documents("shop", "ban: {duration: 1m}", killed.address, other.address))
	load := m.gets("shop", 6)
	m.untilMetric(`ufc_attempts_total{callee="shop",result="ok"}`, 100)
	killed.signal(syscall.SIGKILL)
	killed.wait(10 * time.Second)
	m.untilBanned("shop", killed.address)
	sofar := m.metric(`ufc_attempts_total{callee="shop",result="ok"}`)
	m.untilMetric(`ufc_attempts_total{callee="shop",result="ok"}`, sofar+100)
	load.stop("GETs over the death of an instance")
	if m.metric(`ufc_retries_total{callee="shop"}`) == 0 {
		t.Error("no request met the killed instance, which proves nothing")
	}
}

func (m *mesh) untilBanned(service, address string) {
	m.t.Helper()
	eventually(m.t, 10*time.Second, func() error { return m.banned(service, address) })
}

// An instance that hangs keeps its port and its connections, and answers nothing: only time tells.
func TestInstanceHangsUnderLoad(t *testing.T) {
	t.Parallel()
	hanging, other := startInstance(t), startInstance(t)
	m := startAgent(t, documents("shop", "timeouts: {normal: {read: 1s}}\nban: {requests: {failures: 3, of: 10}, duration: 1m}",
		hanging.address, other.address))
	load := m.gets("shop", 4)
	m.untilMetric(`ufc_attempts_total{callee="shop",result="ok"}`, 100)
	hanging.signal(syscall.SIGSTOP)
	m.untilBanned("shop", hanging.address)
	sofar := m.metric(`ufc_attempts_total{callee="shop",result="ok"}`)
	m.untilMetric(`ufc_attempts_total{callee="shop",result="ok"}`, sofar+100)
	load.stop("GETs over the sleep of an instance")

	// A connection to it can still be made, since the kernel makes it; who asks for more waits for the limit, no longer.
	m.apply(documents("asleep", "timeouts: {normal: {read: 200ms}}\nretries: {normal: {attempts: 0}}", hanging.address))
	m.untilCurrent()
	begun := time.Now()
	m.ask("asleep", "/").must(t, http.StatusGatewayTimeout, "read")
	if took := time.Since(begun); took < 200*time.Millisecond {
		t.Errorf("the limit of 200 ms was over after %s", took)
	}
	hanging.signal(syscall.SIGCONT)
	eventually(t, 10*time.Second, func() error { _, err := m.lookupOK("asleep"); return err })
}
