package main

import (
	"fmt"
	"path/filepath"
	"slices"

	"fieldgate/engine/seal"
	"fieldgate/gateway"
)

// Values of device-id-from.
const (
	deviceIDFromCN  = "cn"
	deviceIDFromSAN = "san"
)

// secretsKeyName is the file in the data folder with the secrets key of a single node.
const secretsKeyName = "secrets.key"

// checkDevices checks how devices show who they are.
func (e *environment) checkDevices() error {
	if e.DeviceIDFrom != deviceIDFromCN && e.DeviceIDFrom != deviceIDFromSAN {
		return fmt.Errorf("device-id-from: %q is none: write cn for the subject's common name, or san for a subjectAltName", e.DeviceIDFrom)
	}
	if len(e.DeviceAuthorities) > maxNames {
		return fmt.Errorf("device-authorities: at most %d", maxNames)
	}
	if slices.Contains(e.DeviceAuthorities, "") {
		return fmt.Errorf("device-authorities: an empty name: write paths of PEM files")
	}
	return nil
}

func (e *environment) deviceAuthorities() gateway.DeviceAuthorities {
	return gateway.DeviceAuthorities{Files: e.DeviceAuthorities, SAN: e.DeviceIDFrom == deviceIDFromSAN}
}

// openSecrets reads the secrets key. Of a node that may be one of several it is not made here: all need the same.
func (e *environment) openSecrets() *seal.Keyring {
	switch {
	case e.SecretsKeyFile != "":
		return seal.Open(e.SecretsKeyFile, false)
	case e.Role == roleAll && e.Bus.URL == "":
		return seal.Open(filepath.Join(e.Data, secretsKeyName), true)
	}
	return seal.Open("", false)
}
