package agent

import (
	"testing"

	"github.com/ufc-mesh/ufc/shared/model"
)

func TestALevelThatComesBack(t *testing.T) {
	video := func(level int) model.Record { return documented("video", func(s *model.Service) { s.Level = level }) }
	r := newRig(t, append(instances("shop", "10.0.0.1:80"), video(1))...)
	level := func() int {
		call := r.begin(t, &Call{Callee: "shop", Caller: "video"})
		return call.Level()
	}
	if level() != 1 {
		t.Errorf("level %d", level())
	}
	r.catalog.Apply(2, []model.Record{{Kind: model.KindService, Name: "video", Deleted: true}})
	if level() != defaultLevel {
		t.Errorf("gone: level %d", level())
	}
	r.catalog.Apply(3, []model.Record{video(5)})
	if level() != 5 {
		t.Errorf("back: level %d", level())
	}
}
