package gateway

// Ready says whether the gateway knows what to serve, from its disk copy or from the control plane. It may be ready while that
// is away.
func (g *Gateway) Ready() bool { return g.snapshots.known.Load() }
