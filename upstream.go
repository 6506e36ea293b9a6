package fieldgate

import "time"

// Upstream is a service behind the gateway, as the environment file of a node names it. Contracts refer to it by name only.
type Upstream struct {
	Name           string
	Addresses      []string      // http://host:port or https://host:port; requests are spread over them in turn
	ConnectTimeout time.Duration // 0: 2 s
	Timeout        time.Duration // of one whole call, where the contract names none; 0: DefaultTimeout
	MaxConnections int           // open at once for each address; 0: 512
}
