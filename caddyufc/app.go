package caddyufc

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"slices"

	"github.com/caddyserver/caddy/v2"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/ufc-mesh/ufc/caddyufc/internal/currentlog"
	"github.com/ufc-mesh/ufc/shared/mesh"
	"github.com/ufc-mesh/ufc/shared/model"
	"github.com/ufc-mesh/ufc/shared/store"
)

func init() { caddy.RegisterModule(new(App)) }

// App attaches Caddy to a mesh of services, whose documents are in etcd: it is the agent of its machine. The handlers
// `ufc` and `ufc_bypass` and the transport `ufc` of `reverse_proxy` work through it. All documents are held in memory, so
// that no request waits for etcd, and none fails because etcd is gone. If follow isn't all, that goes for the services it holds.
//
// What the agent has learnt (bans, windows, connections) outlives a reload of the configuration, unless etcd's endpoints,
// user or TLS, the prefix or the snapshot change.
//
// Placeholders such as {env.UFC_IDC}, {file./run/secrets/etcd} and {system.hostname} are replaced in all texts when the
// configuration is loaded; unknown ones are errors.
type App struct {
	// Where the documents are. Default: an etcd at http://127.0.0.1:2379.
	Etcd Etcd `json:"etcd,omitzero"`

	// What the keys begin with; all agents and writers of one mesh use the same. Begins with a slash and doesn't end with
	// one. Default: /ufc/v1.
	Prefix string `json:"prefix,omitempty"`

	// The IDC (data centre) where this agent runs, as the Topology document names it. Default: unknown.
	IDC string `json:"idc,omitempty"`

	// This agent's name, unique in the mesh: 1-253 bytes without space or slash. Default: the hostname. Webhooks and
	// `caddy ufc get agents` name it.
	AgentID string `json:"agent_id,omitempty"`

	// The file where the documents are kept for a start without etcd. The directory is made if missing. Two agents must
	// not share one. Default: none; then an agent that starts without etcd answers 503 until etcd is there.
	Snapshot string `json:"snapshot,omitempty"`

	// Which services to hold in memory: ["all"]; ["used"], those that somebody calls, or that call, until they are unused for
	// an hour; or the names of some, callers too, since a caller's own document says how important it is. A callee that isn't
	// named is answered 404 unknown_service, and callers that aren't named have the default level. Under used, the first
	// request to a callee waits until etcd has told of it, some milliseconds, at most 1.5 s and what the request has left; 503
	// not_synced if etcd doesn't. All of the prefix is watched whatever is followed, and what isn't is passed over unread.
	// Don't narrow it under 100,000 instances: it saves memory, and the reading at the start. Default: all.
	Follow []string `json:"follow,omitempty"`

	// The share of a service's instances, and of all instances and Service documents, that may be removed within a minute,
	// over 0 and at most 1. What goes over it is held in force, with a warning and the metric ufc_config_held, until somebody
	// runs caddy ufc confirm or the records are back. One instance of a service may always go. Don't set it under 0.3: it would
	// hold ordinary deployments. Default: nothing is held back.
	Protect float64 `json:"protect,omitempty"`

	ctx        caddy.Context
	stopEvents func() // nil: not started
	server     EtcdServer
	mesh       *mesh.Mesh
	shared     *shared
	logger     *slog.Logger
}

// Etcd says where the documents are, and as whom to read them.
type Etcd struct {
	// URLs of the members, or of gRPC proxies in front of them, http or https, with a port. They are used in this order: the
	// first one that works, alone, until it fails or hangs; each minute or so the earlier ones are tried again. Name those of
	// the own IDC first. Default: http://127.0.0.1:2379. Not together with server.
	Endpoints []string `json:"endpoints,omitempty"`

	// An etcd that runs within this process, for a single machine. Not together with endpoints. Default: none.
	ServerRaw json.RawMessage `json:"server,omitempty" caddy:"namespace=ufc.etcd inline_key=module"`

	// The user, if etcd has authentication enabled. Needs read permission for the prefix, and write permission for what
	// begins with prefix/bans/, if the other agents of the machine are to hear of this one's bans, and with prefix/agents/,
	// if `caddy ufc get agents` is to show it. Default: none.
	Username string `json:"username,omitempty"`

	// The user's password. Prefer a placeholder: configurations are printed and stored.
	Password string `json:"password,omitempty"`

	// TLS to etcd. Default: none for http endpoints, the system's authorities and no certificate for https ones.
	TLS *EtcdTLS `json:"tls,omitempty"`
}

// EtcdTLS names the PEM files for TLS to etcd.
type EtcdTLS struct {
	// The certificate that this client shows. Goes together with key. Default: none. All files are read again at each
	// connection.
	Certificate string `json:"certificate,omitempty"`
	// The certificate's key. Default: none.
	Key string `json:"key,omitempty"`
	// The authorities that may have signed etcd's certificates. Default: the system's.
	CA string `json:"ca,omitempty"`
}

// EtcdServer is an etcd within this process: a module in the namespace ufc.etcd. The app opens it before it follows the
// mesh, and closes it after it has let go of that. Hence such a module has no Cleanup, and neither Start nor Stop: Caddy
// takes every module that has both for an app, and starts it by itself.
type EtcdServer interface {
	// Endpoint is the URL where this process reaches the server. It is known once the module is provisioned.
	Endpoint() string
	// Open returns when the server answers, or with an error after a bounded time.
	Open() error
	// Close gives up this configuration's share of the server. It does nothing if Open hasn't succeeded.
	Close() error
}

// embeddedModule is the module behind "etcd embedded". A variable so that tests can do without it.
var embeddedModule = "ufc.etcd.embedded"

var errNoEmbedded = errors.New("this build has no embedded etcd: build it with the package " +
	"github.com/ufc-mesh/ufc/caddyufc/embeddedetcd, or name an etcd outside, such as: etcd http://127.0.0.1:2379")

// CaddyModule returns the Caddy module information.
func (*App) CaddyModule() caddy.ModuleInfo {
	return caddy.ModuleInfo{ID: "ufc", New: func() caddy.Module { return new(App) }}
}

// Provision attaches to the mesh and loads its snapshot. It does no network I/O: validating a configuration runs it too.
func (a *App) Provision(ctx caddy.Context) error {
	a.ctx, a.logger = ctx, ctx.Slogger()
	if err := a.replacePlaceholders(); err != nil {
		return err
	}
	if err := a.provisionServer(ctx); err != nil {
		return err
	}
	config, err := a.config()
	if err != nil {
		return err
	}
	if a.mesh, err = mesh.Acquire(config); err != nil {
		return err
	}
	if a.shared, err = acquireShared(a.mesh.Agent); err != nil {
		return err
	}
	err = ctx.GetMetricsRegistry().Register(a.mesh.Metrics())
	if already := (prometheus.AlreadyRegisteredError{}); err != nil && !errors.As(err, &already) {
		return fmt.Errorf("registering the metrics: %w", err)
	}
	return a.provisionEvents(ctx)
}

func (a *App) replacePlaceholders() error {
	fields := map[string]*string{
		"prefix": &a.Prefix, "idc": &a.IDC, "agent_id": &a.AgentID, "snapshot": &a.Snapshot,
		"etcd.username": &a.Etcd.Username, "etcd.password": &a.Etcd.Password,
	}
	for i := range a.Etcd.Endpoints {
		fields[fmt.Sprintf("etcd.endpoints[%d]", i)] = &a.Etcd.Endpoints[i]
	}
	for i := range a.Follow {
		fields[fmt.Sprintf("follow[%d]", i)] = &a.Follow[i]
	}
	if tls := a.Etcd.TLS; tls != nil {
		fields["etcd.tls.certificate"], fields["etcd.tls.key"], fields["etcd.tls.ca"] = &tls.Certificate, &tls.Key, &tls.CA
	}
	return replace(fields)
}

// replace replaces the placeholders in the fields of a configuration, by the fields' names.
func replace(fields map[string]*string) error {
	repl := caddy.NewReplacer()
	for name, value := range fields {
		replaced, err := repl.ReplaceOrErr(*value, false, true)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		*value = replaced
	}
	return nil
}

func (a *App) provisionServer(ctx caddy.Context) error {
	if a.Etcd.ServerRaw == nil {
		return nil
	}
	if len(a.Etcd.Endpoints) > 0 {
		return errors.New("etcd: endpoints and server exclude each other")
	}
	if _, err := caddy.GetModule(embeddedModule); err != nil {
		return errNoEmbedded
	}
	module, err := ctx.LoadModule(&a.Etcd, "ServerRaw")
	if err != nil {
		return err
	}
	server, ok := module.(EtcdServer)
	if !ok {
		return fmt.Errorf("etcd: server: %T is not an etcd server", module)
	}
	a.server = server
	a.Etcd.Endpoints = []string{server.Endpoint()}
	return nil
}

func (a *App) config() (mesh.Config, error) {
	if a.Protect < 0 || a.Protect > 1 {
		return mesh.Config{}, fmt.Errorf("protect: %v is not a share of 0 to 1", a.Protect)
	}
	if err := inOption("follow", mesh.CheckFollow(a.Follow)); err != nil {
		return mesh.Config{}, err
	}
	if a.IDC != "" {
		if err := inOption("idc", model.CheckIDC(a.IDC)); err != nil {
			return mesh.Config{}, err
		}
	}
	config := mesh.Config{
		Store: store.Config{
			Endpoints: slices.Clone(a.Etcd.Endpoints), Prefix: a.Prefix,
			Username: a.Etcd.Username, Password: a.Etcd.Password,
			Snapshot: a.Snapshot, Logger: currentlog.Slog("ufc"),
		},
		IDC: a.IDC, AgentID: a.AgentID, Face: "caddy", Follow: a.Follow, Protect: a.Protect,
	}
	if tls := a.Etcd.TLS; tls != nil {
		config.Store.Cert, config.Store.Key, config.Store.CA = tls.Certificate, tls.Key, tls.CA
	}
	return config, nil
}

// Start starts the embedded etcd, if there is one, and begins to follow the documents. It doesn't wait for an etcd
// outside: what is asked for before its first answer is served from the snapshot, or refused with 503.
func (a *App) Start() error {
	if a.server != nil {
		if err := a.server.Open(); err != nil {
			return err
		}
	}
	a.mesh.Start()
	a.warnExposed()
	return nil
}

// Stop ends the events alone: the HTTP server may stop later than this app, and serves until then. Cleanup comes after both.
func (a *App) Stop() error {
	if a.stopEvents != nil {
		a.stopEvents()
	}
	return nil
}

// Cleanup lets go of the mesh, and of the embedded etcd after it.
func (a *App) Cleanup() error {
	err := a.Stop() // which isn't called if the configuration fails after its apps have started
	if a.shared != nil {
		err = a.shared.release()
	}
	if a.mesh != nil {
		a.mesh.Release()
	}
	if a.server != nil {
		err = errors.Join(err, a.server.Close())
	}
	return err
}

// appOf returns the app of the configuration that a module is provisioned in; one with all defaults if it has none.
func appOf(ctx caddy.Context) (*App, error) {
	app, err := ctx.App("ufc")
	if err != nil {
		return nil, err
	}
	return app.(*App), nil
}

// Interface guards
var (
	_ caddy.App          = (*App)(nil)
	_ caddy.Provisioner  = (*App)(nil)
	_ caddy.CleanerUpper = (*App)(nil)
)
