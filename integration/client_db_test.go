package integration

import (
	"database/sql"
	"fmt"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5/pgxpool"
)

var (
	mariadbAddresses  = []string{"127.0.0.12", "127.0.0.13", "127.0.0.14"}
	postgresAddresses = []string{"127.0.0.22", "127.0.0.23", "127.0.0.24"}
)

// A MariaDB is killed under go-sql-driver as it is.
func TestClientMariaDB(t *testing.T) {
	t.Parallel()
	port := freePort(t, mariadbAddresses...)
	servers := startMariaDBs(t, mariadbAddresses, port)
	m := startAgent(t, documents("mysql-main", "protocol: tcp\nban: {duration: 30s}", at(mariadbAddresses, port)...))
	mesh := newClient(t, m.agent)
	mysql.RegisterDialContext("ufc", mesh.Dial)
	defer mysql.DeregisterDialContext("ufc")
	db, err := sql.Open("mysql", "app:app@ufc(mysql-main)/app?timeout=2s&readTimeout=2s")
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	db.SetMaxIdleConns(6)
	db.SetConnMaxLifetime(time.Second)
	m.survives(m.agent, "mysql-main", fmt.Sprintf("127.0.0.13:%d", port), servers["127.0.0.13"], 6, 6, 200*time.Millisecond, func() error {
		var one int
		return db.QueryRowContext(t.Context(), "SELECT 1").Scan(&one)
	})
}

// A PostgreSQL is killed under pgx as it is.
func TestClientPostgreSQL(t *testing.T) {
	t.Parallel()
	port := freePort(t, postgresAddresses...)
	servers := startPostgreses(t, postgresAddresses, port)
	m := startAgent(t, documents("pg-main", "protocol: tcp\nban: {duration: 30s}", at(postgresAddresses, port)...))
	mesh := newClient(t, m.agent)
	config, err := pgxpool.ParseConfig("postgres://app@pg-main/postgres?sslmode=disable&pool_max_conns=6")
	if err != nil {
		t.Fatal(err)
	}
	config.ConnConfig.DialFunc, config.ConnConfig.LookupFunc = mesh.DialContext, mesh.LookupHost
	config.MaxConnLifetime = time.Second
	db, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	m.survives(m.agent, "pg-main", fmt.Sprintf("127.0.0.23:%d", port), servers["127.0.0.23"], 6, 12, 200*time.Millisecond, func() error {
		var one int
		return db.QueryRow(t.Context(), "SELECT 1").Scan(&one)
	})
}
