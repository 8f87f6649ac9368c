package caddyufc

import "testing"

// Lean makes the rest of a test run as if the embedded etcd had been left out of the build.
func Lean(t *testing.T) {
	module := embeddedModule
	embeddedModule = "ufc.etcd.left_out"
	t.Cleanup(func() { embeddedModule = module })
}
