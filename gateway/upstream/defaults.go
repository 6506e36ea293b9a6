package upstream

import (
	"time"

	"fieldgate"
)

// fillIn puts the defaults in place of what is left out.
func fillIn(config *fieldgate.Upstream) {
	orDefault(&config.ConnectTimeout, 2*time.Second)
	orDefault(&config.Timeout, fieldgate.DefaultTimeout)
	orDefault(&config.MaxConnections, 512)
	orDefault(&config.MaxWaiting, 1024)
	orDefault(&config.Algorithm, fieldgate.AlgorithmRoundRobin)
	orDefault(&config.HashLoad, 1.25)
	orDefault(&config.Overprovisioning, 1.4)
	orDefault(&config.PanicPercent, 20)

	if config.Health.Kind != fieldgate.HealthCoAP {
		orDefault(&config.Health.Path, "/")
	}
	orDefault(&config.Health.Interval, 10*time.Second)
	orDefault(&config.Health.Timeout, 2*time.Second)
	orDefault(&config.Health.Healthy, 2)
	orDefault(&config.Health.Unhealthy, 3)

	orDefault(&config.Outlier.Consecutive, 5)
	orDefault(&config.Outlier.MinimumCalls, 20)
	orDefault(&config.Outlier.Window, 10*time.Second)
	orDefault(&config.Outlier.Ejection, 5*time.Second)
	orDefault(&config.Outlier.MaxEjection, 60*time.Second)
	orDefault(&config.Outlier.MaxEjected, 50)

	orDefault(&config.Circuit.MinimumCalls, 20)
	orDefault(&config.Circuit.Window, 10*time.Second)
	orDefault(&config.Circuit.Open, 5*time.Second)
}

func orDefault[T comparable](setting *T, value T) {
	var zero T
	if *setting == zero {
		*setting = value
	}
}
