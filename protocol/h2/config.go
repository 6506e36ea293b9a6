package h2

import "time"

// Config bounds what a connection may hold and how long it may take. Zero values mean their defaults.
type Config struct {
	MaxStreams int // streams whose client waits, and handlers that run; beyond: REFUSED_STREAM. Default 250
	MaxHead    int // bytes of a request's head, counted as RFC 9113 §6.5.2 does. Default 32 KiB
	MaxFields  int // fields of a head. Default 100

	// StreamWindow is how many bytes of a stream may wait to be read at first; it doubles up to MaxStreamWindow for a stream
	// that is read as fast as it comes. ConnWindow is for all streams together.
	StreamWindow    int // default 64 KiB - 1, and no less
	MaxStreamWindow int // default 256 KiB
	ConnWindow      int // default 1 MiB

	IdleTimeout     time.Duration // without streams. Default 75 s
	HeadTimeout     time.Duration // for a field section from its first byte, and for the client's preface. Default 10 s
	FrameTimeout    time.Duration // for any other frame from its first byte. Default 30 s
	WriteTimeout    time.Duration // for the client to take what is written at once. Default 30 s
	SettingsTimeout time.Duration // for the client to acknowledge our settings. Default 10 s

	// Malformed is told of each request that was refused before it had a handler. It must not block. May be nil.
	Malformed func(reason string)
}

// Bounds that need no setting.
const (
	maxContinuations = 8         // CONTINUATION frames of a field section (CVE-2024-27316)
	maxSettings      = 64        // of one frame: some of them move the windows of all streams
	maxOut           = 128 << 10 // bytes that wait to be written, beyond which streams wait
	maxQueued        = 512 << 10 // beyond which nothing more is read, since the client does not read either

	// Frames that carry nothing (PING, SETTINGS, RST_STREAM, empty DATA, WINDOW_UPDATE, PRIORITY, unknown ones) draw on idleFrames.
	// What carries something pays idleRefund back, and time pays idlePerSecond.
	idleFrames    = 2000
	idleRefund    = 4
	idlePerSecond = 50
	// Streams that the client resets while their handler runs, and those that we have to refuse, draw on resets (CVE-2023-44487).
	// An exchange that ends well pays one back, and time pays resetsPerSecond.
	resets          = 500
	resetsPerSecond = 50
)

// WithDefaults fills what is zero.
func (c Config) WithDefaults() Config {
	fill(&c.MaxStreams, 250)
	fill(&c.MaxHead, 32<<10)
	fill(&c.MaxFields, 100)
	fill(&c.StreamWindow, initialWindow)
	fill(&c.MaxStreamWindow, 256<<10)
	fill(&c.ConnWindow, 1<<20)
	fill(&c.IdleTimeout, 75*time.Second)
	fill(&c.HeadTimeout, 10*time.Second)
	fill(&c.FrameTimeout, 30*time.Second)
	fill(&c.WriteTimeout, 30*time.Second)
	fill(&c.SettingsTimeout, 10*time.Second)
	c.StreamWindow = max(c.StreamWindow, initialWindow)
	return c
}

func fill[T int | time.Duration](value *T, fallback T) {
	if *value == 0 {
		*value = fallback
	}
}
