//go:build race

package scenarios

// raceDetector tells that everything takes ten times as long, and that races are looked for rather than figures.
const raceDetector = true
