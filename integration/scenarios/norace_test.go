//go:build !race

package scenarios

// raceDetector: see race_test.go.
const raceDetector = false
