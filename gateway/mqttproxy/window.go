package mqttproxy

import "sync"

// window keeps a broker of version 3.1.1, which knows no Receive Maximum, to that of a device of version 5 (MQTT 5 §4.9). What is too much
// waits here, and the broker's other packets pass it by: a PUBREL may be among them that makes room.
type window struct {
	most      int // messages that the device takes without having acknowledged one
	mostBytes int // that wait

	mu        sync.Mutex
	sent      map[uint16]struct{}
	waiting   []held
	bytes     int
	releasing bool // what waited is on its way, and nothing may overtake it
}

type held struct {
	id     uint16
	packet []byte
}

func newWindow(most, mostBytes int) *window {
	return &window{most: most, mostBytes: mostBytes, sent: make(map[uint16]struct{})}
}

// pass says whether a message may go to the device now. Otherwise a copy waits; ok: there was room for it.
func (w *window) pass(id uint16, packet []byte) (now, ok bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	_, again := w.sent[id]
	if again || len(w.sent) < w.most && len(w.waiting) == 0 && !w.releasing {
		w.sent[id] = struct{}{}
		return true, true
	}
	if w.bytes+len(packet) > w.mostBytes {
		return false, false
	}
	w.waiting = append(w.waiting, held{id, append([]byte(nil), packet...)})
	w.bytes += len(packet)
	return false, true
}

// acknowledged notes that the device is done with a message.
func (w *window) acknowledged(id uint16) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.sent, id)
}

// release appends what may go to the device now. What it gave before has been sent.
func (w *window) release(dst []byte) []byte {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.releasing = false
	for len(w.waiting) > 0 && len(w.sent) < w.most {
		first := w.waiting[0]
		w.waiting = w.waiting[1:]
		w.bytes -= len(first.packet)
		w.sent[first.id] = struct{}{}
		dst = append(dst, first.packet...)
		w.releasing = true
	}
	return dst
}
