package store

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"strconv"
	"time"

	"github.com/ufc-mesh/ufc/shared/model"
)

// A snapshot is a text file, so that it can be searched and read when everything else is down:
//
//	ufc-snapshot 1 {"prefix":"/ufc/v1","revision":812,"written":"2026-01-02T15:04:05Z"}
//	services/pcs-upload 12 {"kind":"Service","name":"pcs-upload",…}
//	instances/pcs-upload/10.0.0.1:8080 14 {"address":"10.0.0.1:8080",…}
//	end 2 SHA-256-OF-THE-LINES-ABOVE
//
// Each record is its key below PREFIX/config/, its mod revision, and its value as JSON without line breaks. The checksum
// finds accidents; the file is as trustworthy as its directory. It holds no credentials.
const (
	snapshotMagic   = "ufc-snapshot"
	snapshotVersion = "1"
	snapshotEnd     = "end"
	// maxLine bounds a record. etcd takes 1.5 MiB unless it is told otherwise.
	maxLine = 16 << 20
)

// snapshotHeader says what a snapshot is of.
type snapshotHeader struct {
	Prefix   string    `json:"prefix"`   // a snapshot of another mesh is refused
	Revision int64     `json:"revision"` // etcd's; some records may be newer, since services change while it is written
	Written  time.Time `json:"written"`
	// Held are removals that are held back: some of the records are no more in etcd.
	Held    *model.Holds `json:"held,omitempty"`
	Partial bool         `json:"partial,omitempty"` // the mesh may have services that weren't followed
}

// snapshotWriter writes the format. Its first error stays.
type snapshotWriter struct {
	out     *bufio.Writer
	sum     hash.Hash
	line    []byte
	compact bytes.Buffer
	records int
	size    int64
	err     error
}

func newSnapshotWriter(out io.Writer, header snapshotHeader) *snapshotWriter {
	w := &snapshotWriter{out: bufio.NewWriterSize(out, 64<<10), sum: sha256.New()}
	value, err := json.Marshal(header)
	w.err = err
	w.line = append(w.line, snapshotMagic+" "+snapshotVersion+" "...)
	w.line = append(w.line, value...)
	w.flushLine()
	return w
}

// record writes one record; key is the part below PREFIX/config/.
func (w *snapshotWriter) record(key string, revision int64, value []byte) {
	if bytes.ContainsAny(value, "\r\n") {
		w.compact.Reset()
		if err := json.Compact(&w.compact, value); err != nil && w.err == nil {
			w.err = fmt.Errorf("record %q: %w", key, err)
		}
		value = w.compact.Bytes()
	}
	w.line = append(w.line, key...)
	w.line = append(w.line, ' ')
	w.line = strconv.AppendInt(w.line, revision, 10)
	w.line = append(w.line, ' ')
	w.line = append(w.line, value...)
	w.flushLine()
	w.records++
}

// close writes the end. It doesn't close the file.
func (w *snapshotWriter) close() error {
	w.line = fmt.Appendf(w.line, "%s %d %x", snapshotEnd, w.records, w.sum.Sum(nil))
	w.flushLine()
	if w.err == nil {
		w.err = w.out.Flush()
	}
	return w.err
}

func (w *snapshotWriter) flushLine() {
	w.line = append(w.line, '\n')
	w.sum.Write(w.line)
	if w.err == nil {
		_, w.err = w.out.Write(w.line)
	}
	w.size += int64(len(w.line))
	w.line = w.line[:0]
}

var (
	errTruncated = errors.New("is cut off")
	errDamaged   = errors.New("is damaged")
)

// readSnapshot reads a snapshot of the mesh with the prefix. take gets the records before the checksum is known: what it
// made of them counts only if there is no error. key and value are valid until it returns.
func readSnapshot(in io.Reader, prefix string, take func(key []byte, revision int64, value []byte)) (snapshotHeader, error) {
	lines := bufio.NewScanner(in)
	lines.Buffer(nil, maxLine)
	sum := sha256.New()
	header, err := readHeader(lines, sum, prefix)
	if err != nil {
		return header, err
	}
	for records := 0; lines.Scan(); records++ {
		line := lines.Bytes()
		if end, ok := bytes.CutPrefix(line, []byte(snapshotEnd+" ")); ok {
			return header, checkEnd(end, records, sum, lines)
		}
		hashLine(sum, line)
		key, rest, _ := bytes.Cut(line, []byte(" "))
		number, value, ok := bytes.Cut(rest, []byte(" "))
		revision, err := strconv.ParseInt(string(number), 10, 64)
		if !ok || err != nil || len(key) == 0 {
			return header, fmt.Errorf("%w: line %d is not a record", errDamaged, records+2)
		}
		take(key, revision, value)
	}
	if err := lines.Err(); err != nil {
		return header, err
	}
	return header, errTruncated
}

func readHeader(lines *bufio.Scanner, sum hash.Hash, prefix string) (header snapshotHeader, err error) {
	if !lines.Scan() {
		if err := lines.Err(); err != nil {
			return header, err
		}
		return header, errTruncated
	}
	hashLine(sum, lines.Bytes())
	rest, ok := bytes.CutPrefix(lines.Bytes(), []byte(snapshotMagic+" "))
	if !ok {
		return header, errors.New("is not a snapshot")
	}
	version, value, _ := bytes.Cut(rest, []byte(" "))
	if string(version) != snapshotVersion {
		return header, fmt.Errorf("is of version %.20q, this program reads version %s", version, snapshotVersion)
	}
	if err := json.Unmarshal(value, &header); err != nil {
		return header, fmt.Errorf("%w: header: %w", errDamaged, err)
	}
	if header.Prefix != prefix {
		return header, fmt.Errorf("is of the mesh %q, not of %q", header.Prefix, prefix)
	}
	return header, nil
}

// checkEnd checks the last line, which must be the last.
func checkEnd(end []byte, records int, sum hash.Hash, lines *bufio.Scanner) error {
	want := strconv.Itoa(records) + " " + hex.EncodeToString(sum.Sum(nil))
	if string(end) != want {
		return fmt.Errorf("%w: its checksum is wrong", errDamaged)
	}
	if lines.Scan() {
		return fmt.Errorf("%w: something follows its end", errDamaged)
	}
	return lines.Err()
}

func hashLine(sum hash.Hash, line []byte) {
	sum.Write(line)
	sum.Write([]byte{'\n'})
}
