package coap

// links makes a value an element of one list without an allocation of its own.
type links[T any] struct{ previous, next *T }

// list is a doubly linked list of values that hold their own links.
type list[T any] struct {
	first, last *T
	links       func(*T) *links[T]
}

func (l *list[T]) pushBack(v *T) {
	at := l.links(v)
	at.previous, at.next = l.last, nil
	if l.last == nil {
		l.first = v
	} else {
		l.links(l.last).next = v
	}
	l.last = v
}

// remove takes out v, which must be in the list.
func (l *list[T]) remove(v *T) {
	at := l.links(v)
	if at.previous == nil {
		l.first = at.next
	} else {
		l.links(at.previous).next = at.next
	}
	if at.next == nil {
		l.last = at.previous
	} else {
		l.links(at.next).previous = at.previous
	}
	*at = links[T]{}
}

func (l *list[T]) moveToBack(v *T) {
	if l.last != v {
		l.remove(v)
		l.pushBack(v)
	}
}
