package store

import (
	"slices"
	"strings"

	"github.com/ufc-mesh/ufc/shared/model"
)

// maxShared bounds a sharer's tables; a full one begins anew. Labels may be unique to each instance: then there is nothing
// to gain, and what is gone would be kept.
const maxShared = 4096

// sharer makes instances share what is equal. The instances of a service mostly have the same few IDCs and labels, and a
// map of one label is larger than the rest of an instance: 200,000 instances with one label take half the memory.
// Records are never changed after they were read, so that sharing is safe.
type sharer struct {
	idcs   map[string]string
	labels map[string]map[string]string
	names  []string // scratch
	text   []byte   // scratch
}

func newSharer() sharer {
	return sharer{idcs: map[string]string{}, labels: map[string]map[string]string{}}
}

func (s *sharer) share(instance *model.Instance) {
	instance.IDC = s.idc(instance.IDC)
	if len(instance.Labels) > 0 {
		instance.Labels = s.labelSet(instance.Labels)
	}
}

func (s *sharer) idc(idc string) string {
	if known, ok := s.idcs[idc]; ok {
		return known
	}
	if len(s.idcs) >= maxShared {
		clear(s.idcs)
	}
	idc = strings.Clone(idc) // it may be a part of a larger text
	s.idcs[idc] = idc
	return idc
}

func (s *sharer) labelSet(labels map[string]string) map[string]string {
	s.names = s.names[:0]
	for name := range labels {
		s.names = append(s.names, name)
	}
	slices.Sort(s.names)
	s.text = s.text[:0]
	for _, name := range s.names {
		s.text = appendCounted(appendCounted(s.text, name), labels[name])
	}
	if known, ok := s.labels[string(s.text)]; ok {
		return known
	}
	if len(s.labels) >= maxShared {
		clear(s.labels)
	}
	s.labels[string(s.text)] = labels
	return labels
}

// appendCounted appends a text with its length, so that different lists of texts can't look the same.
func appendCounted(to []byte, text string) []byte {
	to = append(to, byte(len(text)>>24), byte(len(text)>>16), byte(len(text)>>8), byte(len(text)))
	return append(to, text...)
}
