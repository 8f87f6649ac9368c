package corednsufc

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/ufc-mesh/ufc/shared/bypass"
)

func newPool() *callbackPool { return &callbackPool{listeners: map[string]*callbackListener{}} }

// get returns the status and body of a request to the listener at an address.
func get(t *testing.T, url string, header ...string) (int, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return 0, err.Error()
	}
	defer response.Body.Close()
	body, _ := io.ReadAll(response.Body)
	return response.StatusCode, string(body)
}

func handler(t *testing.T, token string) *bypass.Handler {
	t.Helper()
	u := attach(t, "ufc.internal", "token x", append(listed("redis", "10.0.0.1:6379"), document("redis"))...)
	return handlerOf(u, token)
}

func handlerOf(u *UFC, token string) *bypass.Handler {
	m := u.mesh.Load()
	return bypass.New(m.Agent, m.Query, bypass.Options{Token: token})
}

// report posts results to a handler, as JSON, and returns the status.
func report(t *testing.T, h http.Handler, results string) int {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/bypass?command=callback", strings.NewReader(results))
	r.RemoteAddr = "127.0.0.1:1234"
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w.Code
}

func TestCallbackListenerIsShared(t *testing.T) {
	pool, address := newPool(), freeAddress(t)
	query := "http://" + address + "/bypass?command=query&ar=sync_info"
	first, err := pool.acquire(address, handler(t, "old"))
	if err != nil {
		t.Fatal(err)
	}
	if code, body := get(t, query, "token", "old"); code != 200 {
		t.Fatalf("query: %d %s", code, body)
	}
	fuse := strings.Replace(query, "sync_info", "fuse_info^redis", 1)
	if code, body := get(t, fuse, "token", "old"); code != 200 || !strings.HasPrefix(body, `{"fuse_info":{"redis":{"avalanche":false,`) {
		t.Errorf("fuse_info: %d %s", code, body)
	}
	second, err := pool.acquire(address, handler(t, "new"))
	if err != nil || second != first {
		t.Fatalf("the second user got %p, %v, want the listener of the first, %p", second, err, first)
	}
	if code, _ := get(t, query, "token", "old"); code == 200 {
		t.Error("the old handler still answers")
	}
	if code, body := get(t, query, "token", "new"); code != 200 {
		t.Errorf("the new handler doesn't answer: %d %s", code, body)
	}
	first.release()
	if code, body := get(t, query, "token", "new"); code != 200 {
		t.Errorf("after one of two releases: %d %s", code, body)
	}
	second.release()
	if code, body := get(t, query, "token", "new"); code != 0 {
		t.Errorf("after the last release: %d %s", code, body)
	}
	third, err := pool.acquire(address, handler(t, "new"))
	if err != nil {
		t.Fatalf("the address isn't free after the last release: %v", err)
	}
	third.release()
}

func TestCallbackPaths(t *testing.T) {
	pool, address := newPool(), freeAddress(t)
	l, err := pool.acquire(address, handler(t, "secret"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	for path, want := range map[string]int{
		"/bypass?command=get&service=redis": 200,
		"/bypass?command=get&service=none":  404,
		"/bypass":                           400,
		"/bypass/":                          404,
		"/":                                 404,
		"/metrics":                          404,
		"/bypass?command=query&ar=ban_info": 403,
	} {
		if code, body := get(t, "http://"+address+path); code != want {
			t.Errorf("%s: %d %s, want %d", path, code, body, want)
		}
	}
}

func TestCallbackAddressTaken(t *testing.T) {
	other, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	address := other.Addr().String()
	_, err = newPool().acquire(address, nil)
	if err == nil || !strings.Contains(err.Error(), address) || !strings.Contains(err.Error(), "callback") {
		t.Errorf("got error %v, want one that names the option and %s", err, address)
	}
}

// TestCallbackAddressIsOurs: CoreDNS starts the new configuration before it stops the old one, whose address may cover the new one's.
func TestCallbackAddressIsOurs(t *testing.T) {
	pool, address := newPool(), freeAddress(t)
	l, err := pool.acquire(address, handler(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	_, port, _ := net.SplitHostPort(address)
	for _, other := range []string{":" + port, "0.0.0.0:" + port, "localhost:" + port} {
		if _, err := pool.acquire(other, nil); err == nil || !strings.Contains(err.Error(), "by this process, at \""+address) || !strings.Contains(err.Error(), "restart") {
			t.Errorf("%s beside %s: %v", other, address, err)
		}
	}
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := pool.acquire(taken.Addr().String(), nil); err == nil || !strings.Contains(err.Error(), "free the address") {
		t.Errorf("another one's: %v", err)
	}
}

func TestCallbackHeaderIsBounded(t *testing.T) {
	pool, address := newPool(), freeAddress(t)
	l, err := pool.acquire(address, handler(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	defer l.release()
	code, body := get(t, "http://"+address+"/bypass", "X-Long", strings.Repeat("x", 2*maxCallbackHeader))
	if code != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("a header of %d bytes: %d %s", 2*maxCallbackHeader, code, body)
	}
}

// A callback that has begun is answered, although its listener is being released.
func TestCallbackEndsInPeace(t *testing.T) {
	pool, address := newPool(), freeAddress(t)
	l, err := pool.acquire(address, handler(t, ""))
	if err != nil {
		t.Fatal(err)
	}
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const body = "service=redis&backend=10.0.0.1:6379&result=ok"
	io.WriteString(conn, "POST /bypass?command=callback HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 45\r\n\r\n")
	interim := make([]byte, len("HTTP/1.1 100 Continue\r\n\r\n"))
	conn.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(conn, interim); err != nil {
		t.Fatal(err) // the handler is reading now
	}
	released := make(chan struct{})
	go func() { l.release(); close(released) }()
	for {
		other, err := net.Dial("tcp", address)
		if err != nil {
			break // the listener is closed: the release is under way
		}
		other.Close()
	}
	io.WriteString(conn, body)
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 204") {
		t.Errorf("got %q, %v, want 204", answer, err)
	}
	<-released
}
