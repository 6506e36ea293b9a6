package dtls

import (
	"net"
	"net/netip"
	"os"
	"time"
)

// maxWaiting is how many datagrams wait in a pipe.
const maxWaiting = 32

// pipe is the reading half of a net.PacketConn for pion, in memory.
type pipe struct {
	peer    net.Addr
	in      chan []byte
	expired chan struct{} // stands for a read deadline that is over
}

func newPipe(peer netip.AddrPort) pipe {
	return pipe{net.UDPAddrFromAddrPort(peer), make(chan []byte, maxWaiting), make(chan struct{}, 1)}
}

// ReadFrom gives the next datagram.
func (p *pipe) ReadFrom(buffer []byte) (int, net.Addr, error) {
	select {
	case datagram := <-p.in:
		return copy(buffer, datagram), p.peer, nil
	case <-p.expired:
		return 0, nil, os.ErrDeadlineExceeded
	}
}

// SetReadDeadline knows the two deadlines that pion sets: one that is over, to make a read return, and none.
func (p *pipe) SetReadDeadline(at time.Time) error {
	if at.IsZero() {
		select {
		case <-p.expired:
		default:
		}
		return nil
	}
	select {
	case p.expired <- struct{}{}:
	default:
	}
	return nil
}

// Close ends a read.
func (p *pipe) Close() error { return p.SetReadDeadline(time.Unix(1, 0)) }

// LocalAddr is of no use to pion.
func (p *pipe) LocalAddr() net.Addr { return p.peer }

// SetDeadline is not needed.
func (p *pipe) SetDeadline(time.Time) error { return nil }

// SetWriteDeadline is not needed: no write waits.
func (p *pipe) SetWriteDeadline(time.Time) error { return nil }
