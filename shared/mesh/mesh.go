package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ufc-mesh/ufc/shared/agent"
	"github.com/ufc-mesh/ufc/shared/catalog"
	"github.com/ufc-mesh/ufc/shared/protect"
	"github.com/ufc-mesh/ufc/shared/store"
)

// Config says which mesh, and who attaches to it.
type Config struct {
	// Store says where the documents are. Its Logger becomes the attachment's, so it must outlive the host's configurations.
	Store   store.Config
	IDC     string   // physical IDC of this process. Empty: unknown
	AgentID string   // unique name of this agent, under which it tells of itself and its bans; default the hostname. Webhooks name it
	Host    string   // machine name, shared with the other agents on it, who hear its bans; default the hostname. Webhooks name it
	Follow  []string // what to follow: all, used, or services by name; default all
	Face    string   // what the agent is a part of, for people: caddy or coredns
	Protect float64  // share that may be removed at once, 0–1; what goes over it is held back (package protect). 0: nothing is
}

// Mesh is one user's hold on an attachment to a mesh.
type Mesh struct {
	*attachment
	config Config
}

// attachment is what all holds on one mesh share.
type attachment struct {
	Catalog *catalog.Catalog
	Agent   *agent.Agent

	key      string
	guard    *protect.Guard // between the follower and the catalog
	follower *store.Follower
	// board is where the agents of this machine tell each other their bans, decisions passes on what the agent decides.
	board     *store.Board
	presence  *store.Presence
	decisions *decisions
	begun     time.Time
	start     sync.Once
	settings  atomic.Pointer[Config] // in force: the newest hold's
	holds     []*Mesh                // the newest last; guarded by pool.mu
}

// pool holds the attachments of this process, by identity.
var pool = struct {
	mu          sync.Mutex
	attachments map[string]*attachment
}{attachments: map[string]*attachment{}}

// key is what makes two configurations mean the same mesh, seen with the same eyes. The rest may change under way.
func (c *Config) key() string {
	s := &c.Store
	return strings.Join([]string{
		strings.Join(s.Endpoints, " "), s.Prefix, s.Username, s.Password, s.Cert, s.Key, s.CA, s.Snapshot,
	}, "\x00")
}

func (c *Config) complete() error {
	if err := c.Store.Validate(); err != nil {
		return err
	}
	if c.AgentID == "" || c.Host == "" {
		host, err := os.Hostname()
		if err != nil {
			return fmt.Errorf("finding the hostname, which names this agent: %w", err)
		}
		c.AgentID, c.Host = cmp.Or(c.AgentID, host), cmp.Or(c.Host, host)
	}
	return errors.Join(store.CheckHost(c.Host), store.CheckAgentID(c.AgentID))
}

// Acquire returns a hold on a mesh: on the attachment that this process has already, whose settings become these until the
// hold is released, or on a new one that has loaded its snapshot, if there is one. It does no network I/O. Release it.
func Acquire(config Config) (*Mesh, error) {
	if err := config.complete(); err != nil {
		return nil, err
	}
	pool.mu.Lock()
	defer pool.mu.Unlock()
	shared := pool.attachments[config.key()]
	if shared == nil {
		var err error
		if shared, err = attach(config); err != nil {
			return nil, err
		}
		pool.attachments[shared.key] = shared
	}
	m := &Mesh{attachment: shared, config: config}
	shared.holds = append(shared.holds, m)
	shared.use(&m.config)
	return m, nil
}

func attach(config Config) (*attachment, error) {
	logger := config.Store.Logger
	views := catalog.New(logger)
	guard := protect.New(views, logger)
	follower, err := store.NewFollower(config.Store, guard)
	if err != nil {
		return nil, err
	}
	a := &attachment{Catalog: views, key: config.key(), guard: guard, follower: follower, begun: time.Now()}
	follower.Follow(a.scope(config.Follow)) // of the snapshot, too
	// A snapshot that can't be used must not keep the agent from serving what etcd will say.
	if err := follower.LoadSnapshot(); err != nil && !errors.Is(err, fs.ErrNotExist) {
		logger.Error("snapshot not used", "error", err)
	}
	tell := &teller{}
	board, err := store.NewBoard(follower, config.Host, config.AgentID, tell.told)
	if err != nil {
		return nil, err
	}
	tell.board = board
	a.board, a.presence = board, store.NewPresence(follower, a.self)
	a.settings.Store(&config)
	a.decisions = newDecisions(a, tell, logger)
	a.Agent = agent.New(views, agent.Options{IDC: config.IDC, Decided: a.decisions.take, Fetch: a.fetch})
	tell.agent = a.Agent
	return a, nil
}

// use puts settings in force, which are the newest hold's. While there are older holds, nothing is let go of that these want: the
// newest may be a configuration that is only tried.
func (a *attachment) use(settings *Config) {
	a.settings.Store(settings)
	a.Agent.SetIDC(settings.IDC)
	a.guard.SetShare(strictest(a.holds))
	a.follower.Follow(a.scope(widest(a.holds)))
	_ = a.board.Identify(settings.Host, settings.AgentID) // the host was checked
	a.presence.Moved()
}

// Start begins to follow etcd, to tell and hear bans on this machine, and to tell that the agent is there. Further calls do
// nothing.
func (m *Mesh) Start() {
	m.start.Do(func() {
		m.follower.Start()
		m.board.Start()
		m.presence.Start()
	})
}

// Release gives the hold back, and puts the settings of the newest one left in force: a configuration that was tried and
// failed leaves no trace. The last Release ends the attachment: the watch, the probes, and a last snapshot.
func (m *Mesh) Release() {
	pool.mu.Lock()
	if !slices.Contains(m.holds, m) { // released before
		pool.mu.Unlock()
		return
	}
	m.holds = slices.DeleteFunc(m.holds, func(other *Mesh) bool { return other == m })
	last := len(m.holds) == 0
	if last {
		delete(pool.attachments, m.key)
	} else {
		m.use(&m.holds[len(m.holds)-1].config)
	}
	pool.mu.Unlock()
	if last {
		m.presence.Close()
		m.board.Close() // as presence, over the follower's connection: what was told ends at once
		m.follower.Close()
		m.Agent.Close()
		m.decisions.close()
	}
}

// Status tells how the attachment stands to etcd.
func (m *Mesh) Status() store.Status { return m.follower.Status() }

// Stale tells that what is served came from the snapshot, and etcd hasn't been heard since.
func (m *Mesh) Stale() bool { return m.follower.Status().Source == store.SourceSnapshot }

// SyncInfo is the answer to the query sync_info.
type SyncInfo struct {
	AgentID     string              `json:"agent_id"`
	Host        string              `json:"host"`
	IDC         string              `json:"idc,omitempty"`
	Endpoints   []string            `json:"endpoints"`
	Endpoint    string              `json:"endpoint,omitempty"` // in use
	Prefix      string              `json:"prefix"`
	Follow      []string            `json:"follow"` // all, used, or the services
	Source      string              `json:"source"` // etcd, snapshot or none
	Synced      bool                `json:"synced"` // in step with etcd now
	Revision    int64               `json:"revision"`
	LastContact *time.Time          `json:"last_contact"` // with etcd; null: never
	LastError   string              `json:"last_error,omitempty"`
	Services    int                 `json:"services"`
	Instances   int                 `json:"instances"`
	Refused     int                 `json:"rejected_count"` // records that are refused now
	Rejected    []catalog.Rejection `json:"rejected"`       // a thousand of them at most
	Held        protect.Status      `json:"held"`           // removals that are held back
	Bans        store.BoardStatus   `json:"bans"`
	// Presence is how others see this agent in etcd.
	Presence store.PresenceStatus `json:"presence"`
}

func (m *Mesh) syncInfo() SyncInfo {
	config := m.settings.Load()
	status := m.follower.Status()
	services, instances := m.Catalog.Counts()
	info := SyncInfo{
		AgentID: config.AgentID, Host: config.Host, IDC: config.IDC,
		Endpoints: config.Store.Endpoints, Endpoint: status.Endpoint, Prefix: config.Store.Prefix, Follow: config.follows(),
		Source: status.Source, Synced: status.Synced, Revision: status.Revision, LastError: status.LastError,
		Services: services, Instances: instances, Refused: m.Catalog.RejectedCount(), Rejected: m.Catalog.Rejected(),
		Held: m.guard.Status(), Bans: m.board.Status(), Presence: m.presence.Status(),
	}
	if !status.LastContact.IsZero() {
		contact := status.LastContact.UTC()
		info.LastContact = &contact
	}
	return info
}

// Query answers a debug path such as backend_info^SERVICE: sync_info, or what agent.Query answers. The answer is an object
// whose one key is the path's first segment. Its error wraps agent.ErrSelector if the path selects nothing.
func (m *Mesh) Query(path string) (map[string]any, error) {
	selector := strings.Split(path, "^")
	var answer any
	var err error
	if selector[0] == "sync_info" && len(selector) == 1 {
		answer = m.syncInfo()
	} else {
		answer, err = m.Agent.Query(selector)
	}
	if err != nil {
		return nil, err
	}
	return map[string]any{selector[0]: answer}, nil
}

// Interface guards: the store asks for the second at run time.
var (
	_ store.Sink   = (*protect.Guard)(nil)
	_ store.Source = (*protect.Guard)(nil)
)
