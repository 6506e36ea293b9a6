package pipeline

import (
	"bytes"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"fieldgate"
)

// choice tells apart the operations of one method and path by what else a request says. Looking one up costs the same however many
// there are: as many look-ups as there are sorts of condition.
type choice struct {
	sorts     []*conditionSort // the most demanding first
	otherwise *target          // takes what is left; nil: nothing does
	vary      string           // fields that decide, for the Vary field (RFC 9110 §12.5.5)
	none      *fieldgate.Problem
}

// conditionSort are the operations whose conditions are about the same fields.
type conditionSort struct {
	fields    []string // lower case, sorted
	mediaType bool
	targets   map[string]*target // by the fields' values and the media type, each followed by a line feed
}

// sortOf gives the sort of conditions and the values that they demand, as conditionSort has them.
func sortOf(conditions []fieldgate.Condition) (sort conditionSort, key string) {
	conditions = slices.Clone(conditions)
	slices.SortFunc(conditions, func(a, b fieldgate.Condition) int { return strings.Compare(a.Field, b.Field) })
	media := ""
	for _, c := range conditions {
		if c.MediaType != "" {
			sort.mediaType, media = true, c.MediaType+"\n"
			continue
		}
		sort.fields = append(sort.fields, c.Field)
		key += c.Value + "\n"
	}
	return sort, key + media
}

func (s *conditionSort) demands() int {
	if s.mediaType {
		return len(s.fields) + 1
	}
	return len(s.fields)
}

// add gives the operation with these conditions its place, unless another has it.
func (c *choice) add(conditions []fieldgate.Condition, t *target) (err error) {
	if len(conditions) == 0 {
		c.otherwise, err = heir(c.otherwise, t)
		return err
	}
	sort, key := sortOf(conditions)
	s := c.sort(sort)
	s.targets[key], err = heir(s.targets[key], t)
	return err
}

// sort finds or makes the sort of conditions.
func (c *choice) sort(sort conditionSort) *conditionSort {
	same := func(s *conditionSort) bool {
		return s.mediaType == sort.mediaType && slices.Equal(s.fields, sort.fields)
	}
	if i := slices.IndexFunc(c.sorts, same); i >= 0 {
		return c.sorts[i]
	}
	sort.targets = make(map[string]*target)
	c.sorts = append(c.sorts, &sort)
	slices.SortFunc(c.sorts, func(a, b *conditionSort) int {
		if a.demands() != b.demands() {
			return b.demands() - a.demands()
		}
		return strings.Compare(strings.Join(a.fields, "\n"), strings.Join(b.fields, "\n")) // whatever the order of contracts
	})
	return &sort
}

// finish makes what the choice says to callers.
func (c *choice) finish() {
	var fields []string
	mediaTypes := make(map[string]bool)
	named := false
	for _, s := range c.sorts {
		for _, field := range s.fields {
			named = true
			if name := http.CanonicalHeaderKey(field); !slices.Contains(fields, name) {
				fields = append(fields, name)
			}
		}
		if s.mediaType {
			for key := range s.targets {
				key = strings.TrimSuffix(key, "\n")
				mediaTypes[key[strings.LastIndexByte(key, '\n')+1:]] = true
			}
		}
	}
	slices.Sort(fields)
	if len(mediaTypes) > 0 {
		fields = append(fields, "Accept", "Content-Type")
	}
	c.vary = strings.Join(fields, ", ")
	if named {
		// Which values there are is the contract's to tell, to those who may read it.
		c.none = fieldgate.NewProblem(fieldgate.ProblemNotFound, "The path is served in versions that the request tells apart by "+c.vary+". None is meant by this request.")
		return
	}
	var types []string
	for t := range mediaTypes {
		types = append(types, t)
	}
	slices.Sort(types)
	detail := "The path is served in versions that Accept, or the type of the content, tells apart: " + listed(types) + "."
	c.none = fieldgate.NewProblem(fieldgate.ProblemNotAcceptable, detail)
}

// listed names a few of many.
func listed(names []string) string {
	const few = 8
	if len(names) > few {
		return fmt.Sprintf("%s and %d more", strings.Join(names[:few], ", "), len(names)-few)
	}
	return strings.Join(names, ", ")
}

// maxConditionKey bounds what a request's values are compared in, in bytes: four values of a contract and a media type.
const maxConditionKey = 5 * (fieldgate.MaxIdentifierBytes + 1)

// choose finds the operation that the request means: of those whose conditions hold, the one that demands most.
func (x *Exchange) choose(c *choice) *target {
	x.Vary = c.vary
	var buffer [maxConditionKey]byte
	for _, s := range c.sorts {
		key, ok := x.conditionKey(buffer[:0], s)
		if !ok {
			continue
		}
		if !s.mediaType {
			if t := s.targets[string(key)]; t != nil {
				return t
			}
		} else if t := x.chooseType(s, key); t != nil {
			return t
		}
	}
	return c.otherwise
}

// conditionKey appends the values that the request has in a sort's fields. ok is false where one is missing or longer than a contract
// could demand. A field in several lines has their values joined, and so none of them.
func (x *Exchange) conditionKey(key []byte, s *conditionSort) (_ []byte, ok bool) {
	if x.Fields == nil {
		return nil, false
	}
	for _, field := range s.fields {
		value, found := x.Fields.Field(field)
		if !found || len(value) > fieldgate.MaxIdentifierBytes {
			return nil, false
		}
		key = append(append(key, value...), '\n')
	}
	return key, true
}

// chooseType finds the operation of the sort whose media type is that of the content, or else the one that Accept names with the
// greatest weight (RFC 9110 §12.5.1). A range such as */* names none, and weight 0 excludes.
func (x *Exchange) chooseType(s *conditionSort, key []byte) (best *target) {
	var lower [fieldgate.MaxIdentifierBytes]byte
	named := func(mediaType []byte) *target {
		if len(mediaType) == 0 || len(key)+len(mediaType) >= maxConditionKey {
			return nil
		}
		return s.targets[string(append(append(key, mediaType...), '\n'))]
	}
	if t := named(mediaType(lower[:0], x.ContentType)); t != nil {
		return t
	}
	greatest := 0
	for r := range x.acceptable {
		if r.weight > greatest && bytes.IndexByte(r.mediaType, '*') < 0 {
			if t := named(mediaType(lower[:0], r.mediaType)); t != nil {
				best, greatest = t, r.weight
			}
		}
	}
	return best
}
