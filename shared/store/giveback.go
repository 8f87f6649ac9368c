package store

import "runtime/debug"

// manyRecords is from how many records on reading them leaves memory behind that is worth to be given back: some 5 MiB.
const manyRecords = 10_000

// giveBack returns to the system what reading so many records took. To read 200,000 of them takes four times the memory that
// they need in the end; the collector would keep it for what comes next, but nothing like it comes until everything is
// read again, and an agent shares its machine with the programs that it serves. It is done once for a list, rather than
// with a lower GOGC, which would cost CPU all the time. Twice, since what lies in pools, such as gRPC's buffers, only goes the
// second time.
func giveBack(records int) {
	if records < manyRecords {
		return
	}
	debug.FreeOSMemory()
	debug.FreeOSMemory()
}
