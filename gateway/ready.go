package gateway

// Ready says whether the gateway has contracts to serve by. It may be ready while the control plane is away.
func (g *Gateway) Ready() bool { return g.pipeline.Program().Version > 0 }
