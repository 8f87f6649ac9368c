package client_test

import (
	"bufio"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/redis/go-redis/v9"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/ufc-mesh/ufc/shared/client"
)

// A request to a service's name goes through the agent of this machine.
func Example() {
	agent := standIn() // a program has the real one, and leaves Agents out
	defer agent.Close()

	mesh := client.New(client.Config{Caller: "shop-web", Agents: []string{agent.Listener.Addr().String()}})
	defer mesh.Close()

	web := http.Client{Transport: mesh, Timeout: 2 * time.Second}
	resp, err := web.Get("http://pcs-upload/status?verbose=1")
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(string(body))
	// Output: shop-web asks pcs-upload for /status?verbose=1
}

// With backups: the agent of this machine, then two others. Instances are asked for at the DNS's callback listener.
func ExampleConfig() {
	mesh := client.New(client.Config{
		Caller:       "shop-web",
		Agents:       []string{client.DefaultAgent, "10.0.0.8:8888", "10.0.0.9:8888"},
		BypassAgents: []string{"127.0.0.1:8889", "10.0.0.8:8888", "10.0.0.9:8888"},
	})
	defer mesh.Close()
}

// A connection to an instance of a service, whatever the protocol.
func ExampleClient_DialContext() {
	agent := standIn()
	defer agent.Close()

	mesh := client.New(client.Config{Agents: []string{agent.Listener.Addr().String()}})
	defer mesh.Close()

	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	conn, err := mesh.DialContext(ctx, "tcp", "greeter")
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
	line, _ := bufio.NewReader(conn).ReadString('\n')
	fmt.Print(line)
	// Output: hello
}

// Why there is no connection.
func ExampleRefusal() {
	agent := standIn()
	defer agent.Close()

	mesh := client.New(client.Config{Agents: []string{agent.Listener.Addr().String()}})
	defer mesh.Close()

	_, err := mesh.Dial(context.Background(), "no-such-service")
	var refusal *client.Refusal
	if errors.As(err, &refusal) {
		fmt.Println(refusal.Reason)
	}
	// Output: unknown_service
}

// go-redis takes the dialer as it is.
func ExampleClient_DialContext_redis() {
	mesh := client.New(client.Config{Caller: "shop-web"})
	defer mesh.Close()

	db := redis.NewClient(&redis.Options{Addr: "redis-main", Dialer: mesh.DialContext})
	defer db.Close()
	fmt.Println(db.Ping(context.Background()).Result())
}

// go-sql-driver takes Dial under a name of its own.
func ExampleClient_Dial_mysql() {
	mesh := client.New(client.Config{Caller: "shop-web"})
	defer mesh.Close()

	mysql.RegisterDialContext("ufc", mesh.Dial)
	db, err := sql.Open("mysql", "shop:secret@ufc(mysql-main)/shop?readTimeout=2s")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	// Connections that live for ever hide what becomes of instances: a new one goes where it is best now.
	db.SetConnMaxLifetime(10 * time.Minute)
}

// pgx resolves names before it dials; LookupHost lets names of services through.
func ExampleClient_LookupHost_pgx() {
	mesh := client.New(client.Config{Caller: "shop-web"})
	defer mesh.Close()

	config, err := pgxpool.ParseConfig("postgres://shop:secret@pg-main/shop?sslmode=disable")
	if err != nil {
		log.Fatal(err)
	}
	config.ConnConfig.DialFunc, config.ConnConfig.LookupFunc = mesh.DialContext, mesh.LookupHost
	db, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
}

// gRPC is told to leave the name alone.
func ExampleClient_Dial_grpc() {
	mesh := client.New(client.Config{Caller: "shop-web"})
	defer mesh.Close()

	conn, err := grpc.NewClient("passthrough:///search",
		grpc.WithContextDialer(mesh.Dial), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer conn.Close()
}

// standIn stands for an agent and an instance of the service greeter.
func standIn() *httptest.Server {
	greeter, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		query := r.URL.Query()
		switch {
		case r.URL.Path != "/bypass":
			fmt.Fprintf(w, "%s asks %s for %s", r.Header.Get("x-ufc-self-service-name"), r.Header.Get("x-ufc-service-name"), r.RequestURI)
		case query.Get("command") == "callback":
			w.WriteHeader(http.StatusNoContent)
		case query.Get("service") != "greeter":
			w.Header().Set("x-ufc-error", "unknown_service")
			w.WriteHeader(http.StatusNotFound)
		default:
			fmt.Fprintf(w, `{"backends": [{"backend": %q, "id": "A", "timeouts": {"connect_ms": 300}}]}`, greeter.Addr())
			go func() {
				if conn, err := greeter.Accept(); err == nil {
					_, _ = io.Copy(conn, strings.NewReader("hello\n"))
					_ = conn.Close()
				}
				_ = greeter.Close()
			}()
		}
	}))
	return server
}
