package gateway

import (
	"cmp"
	"container/heap"
	"slices"

	"fieldgate"
)

// page gathers the first entries of a list that comes in any order.
type page[T any] struct {
	limit int
	kept  entries[T] // the one that is last in order on top
	more  bool
}

type ordered[T any] struct {
	order string
	entry T
}

func newPage[T any](limit int) *page[T] {
	return &page[T]{limit: min(max(limit, 1), fieldgate.MaxMQTTPage)}
}

// fits says whether an entry of this order can be on the page.
func (p *page[T]) fits(order string) bool {
	if len(p.kept) < p.limit || order < p.kept[0].order {
		return true
	}
	p.more = true
	return false
}

func (p *page[T]) add(order string, entry T) {
	if len(p.kept) == p.limit {
		p.kept[0] = ordered[T]{order, entry}
		heap.Fix(&p.kept, 0)
		p.more = true
		return
	}
	heap.Push(&p.kept, ordered[T]{order, entry})
}

func (p *page[T]) entries() (list []T, more bool) {
	slices.SortFunc(p.kept, func(a, b ordered[T]) int { return cmp.Compare(a.order, b.order) })
	bytes := 0
	for _, o := range p.kept {
		if bytes += len(o.order)*6 + 300; bytes > fieldgate.MaxMQTTPageBytes && len(list) > 0 { // JSON may write a character with six
			return list, true
		}
		list = append(list, o.entry)
	}
	return list, p.more
}

type entries[T any] []ordered[T]

func (e entries[T]) Len() int           { return len(e) }
func (e entries[T]) Less(i, j int) bool { return e[i].order > e[j].order }
func (e entries[T]) Swap(i, j int)      { e[i], e[j] = e[j], e[i] }
func (e *entries[T]) Push(x any)        { *e = append(*e, x.(ordered[T])) }
func (e *entries[T]) Pop() any {
	last := (*e)[len(*e)-1]
	*e = (*e)[:len(*e)-1]
	return last
}
