package mesh

import (
	"runtime/debug"
	"sync"

	"github.com/ufc-mesh/ufc/shared/model"
)

// self is the presence's store.SelfFunc.
func (a *attachment) self() (id string, self model.Agent) {
	config := a.settings.Load()
	services, instances := a.Catalog.Counts()
	return config.AgentID, model.Agent{
		Host: config.Host, IDC: config.IDC, Face: config.Face, Version: version(), Started: a.begun,
		Synced: a.follower.Status().Synced, Revision: a.Catalog.Revision(), Age: model.Duration(a.Catalog.Age()),
		Services: services, Instances: instances,
	}
}

const module = "github.com/ufc-mesh/ufc"

// version is this module's in the program that runs, which may be another module's; empty: unknown.
var version = sync.OnceValue(func() string {
	build, ok := debug.ReadBuildInfo()
	if !ok {
		return ""
	}
	if build.Main.Path == module {
		return build.Main.Version
	}
	for _, dependency := range build.Deps {
		if dependency.Path != module {
			continue
		}
		if dependency.Replace != nil && dependency.Replace.Version != "" {
			return dependency.Replace.Version
		}
		return dependency.Version
	}
	return ""
})
