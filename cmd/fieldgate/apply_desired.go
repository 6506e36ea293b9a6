package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"

	"fieldgate"
	"fieldgate/api"
)

// desired is what a folder says that the installation should be.
type desired struct {
	contracts []contractFile
	devices   []desiredDevice // nil: the folder says nothing about devices
	apps      []desiredApp    // nil: the folder says nothing about apps
}

type contractFile struct {
	name     string
	document []byte
}

// principalList is a file that lists devices or apps.
type principalList struct {
	Devices []desiredDevice `yaml:"devices"`
	Apps    []desiredApp    `yaml:"apps"`
}

type desiredDevice struct {
	ID       string             `yaml:"id"`
	Model    string             `yaml:"model"`
	Firmware string             `yaml:"firmware"`
	State    api.PrincipalState `yaml:"state"` // active, the default, or quarantined
}

type desiredApp struct {
	ID     string   `yaml:"id"`
	Name   string   `yaml:"name"`
	Scopes []string `yaml:"scopes"`
}

// readDesired reads a file, or all files of a folder that can be meant, in the order of their names.
func readDesired(path string) (*desired, error) {
	info, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("there is no file or folder %s", path)
	}
	if err != nil {
		return nil, err
	}
	files := []string{path}
	if info.IsDir() {
		if files, err = documentsIn(path); err != nil {
			return nil, err
		}
		if len(files) == 0 {
			return nil, fmt.Errorf("%s holds no *.yaml, *.yml or *.json file", path)
		}
	}
	wanted := &desired{}
	for _, file := range files {
		document, err := readDocument(nil, file)
		if err != nil {
			return nil, err
		}
		if !listsPrincipals(document) {
			wanted.contracts = append(wanted.contracts, contractFile{file, document})
			continue
		}
		var list principalList
		decoder := yaml.NewDecoder(bytes.NewReader(document))
		decoder.KnownFields(true)
		if err := decoder.Decode(&list); err != nil {
			return nil, fmt.Errorf("%s: %s", file, explainYAML(err))
		}
		wanted.devices = append(wanted.devices, list.Devices...)
		wanted.apps = append(wanted.apps, list.Apps...)
	}
	return wanted, wanted.check()
}

func documentsIn(folder string) ([]string, error) {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil, err
	}
	var files []string
	for _, entry := range entries {
		switch strings.ToLower(filepath.Ext(entry.Name())) {
		case ".yaml", ".yml", ".json":
			// The environment file may lie beside the contracts.
			if !entry.IsDir() && entry.Name() != environmentName {
				files = append(files, filepath.Join(folder, entry.Name()))
			}
		}
	}
	return files, nil
}

// listsPrincipals tells lists of devices and apps from contracts. What cannot be read is left to the contract compiler,
// which explains it best.
func listsPrincipals(document []byte) bool {
	var top map[string]yaml.Node
	if yaml.Unmarshal(document, &top) != nil {
		return false
	}
	_, devices := top["devices"]
	_, apps := top["apps"]
	_, contract := top["openapi"]
	return (devices || apps) && !contract
}

func (d *desired) check() error {
	seen := map[string]bool{}
	for i := range d.devices {
		device := &d.devices[i]
		switch device.State {
		case "":
			device.State = api.PrincipalStateActive
		case api.PrincipalStateActive, api.PrincipalStateQuarantined:
		default:
			return fmt.Errorf("device %q: the state is active or quarantined, not %q (end a device with \"fieldgate device revoke\")", device.ID, device.State)
		}
		if err := checkEntry("device", device.ID, seen); err != nil {
			return err
		}
	}
	for i := range d.apps {
		if err := checkEntry("app", d.apps[i].ID, seen); err != nil {
			return err
		}
		slices.Sort(d.apps[i].Scopes)
	}
	return nil
}

func checkEntry(kind, id string, seen map[string]bool) error {
	if !fieldgate.ValidIdentifier(id) {
		return fmt.Errorf("%s: %q is no id: use 1 to %d letters, digits and . _ : -", kind, id, fieldgate.MaxIdentifierBytes)
	}
	if seen[kind+" "+id] {
		return fmt.Errorf("%s %q is listed twice", kind, id)
	}
	seen[kind+" "+id] = true
	return nil
}
