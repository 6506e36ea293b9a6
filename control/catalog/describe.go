package catalog

import (
	"context"
	"encoding/json"
	"slices"
	"strings"

	"fieldgate"
	"fieldgate/contract"
	"fieldgate/engine/store"
)

// Description is what a document says of itself to people.
type Description struct {
	Owner string // the contact that it names
	Text  string // Markdown
}

const (
	maxOwnerBytes = 128
	maxTextBytes  = 16 << 10
)

// Describe bounds what a document says to people.
func Describe(reading contract.Reading) Description {
	return Description{Owner: bounded(reading.Owner, maxOwnerBytes), Text: bounded(reading.Description, maxTextBytes)}
}

// bounded is a text as the database takes it.
func bounded(text string, most int) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) > most {
		text = text[:most]
	}
	return strings.ToValidUTF8(text, "")
}

func protocolNames() (names []string) {
	for p := range fieldgate.Protocols {
		names = append(names, p.String())
	}
	return names
}

// ProtocolsOf lists the protocols by which a contract can be called.
func ProtocolsOf(k *fieldgate.Contract) []string {
	used := make(map[fieldgate.Protocol]bool)
	for i := range k.Operations {
		operation := &k.Operations[i]
		heard := operation.MQTT != nil && operation.MQTT.Action != fieldgate.ActionPublish
		if b := operation.HTTP; b != nil {
			used[fieldgate.ProtocolHTTP] = true
			// A subscription is served as server-sent events and as WebSocket.
			used[fieldgate.ProtocolWebSocket] = used[fieldgate.ProtocolWebSocket] || b.WebSocket || heard
			used[fieldgate.ProtocolSSE] = used[fieldgate.ProtocolSSE] || heard
		}
		used[fieldgate.ProtocolMQTT] = used[fieldgate.ProtocolMQTT] || operation.MQTT != nil
		used[fieldgate.ProtocolCoAP] = used[fieldgate.ProtocolCoAP] || operation.CoAP != nil
	}
	return slices.DeleteFunc(protocolNames(), func(name string) bool {
		p, _ := fieldgate.ParseProtocol(name)
		return !used[p]
	})
}

// protocolsOf is for the database; an API that cannot be called has a dash.
func protocolsOf(k *fieldgate.Contract) string {
	if names := ProtocolsOf(k); len(names) > 0 {
		return strings.Join(names, " ")
	}
	return "-"
}

// describe fills in what an older program did not keep of its contracts.
func (c *Catalog) describe(ctx context.Context) error {
	type key struct{ api, version string }
	var lacking []key
	err := c.store.View(ctx, func(tx *store.Tx) error {
		rows, err := tx.QueryContext(ctx, "SELECT api, version FROM contract WHERE protocols = ''")
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var k key
			if err := rows.Scan(&k.api, &k.version); err != nil {
				return err
			}
			lacking = append(lacking, k)
		}
		return rows.Err()
	})
	if err != nil {
		return err
	}
	for _, k := range lacking {
		document, err := c.Document(ctx, k.api, k.version)
		if err != nil {
			return err
		}
		reading, err := contract.Read("document", document)
		if err != nil {
			c.log.Warn("what a document says to people is not shown, because this version of the program cannot read it", "api", k.api, "version", k.version, "error", err)
		}
		said := Describe(reading)
		err = c.store.Update(ctx, func(tx *store.Tx) error {
			_, encoded, err := readEncoded(ctx, tx, k.api, k.version)
			if err != nil {
				return err
			}
			var compiled fieldgate.Contract
			if err := json.Unmarshal(encoded, &compiled); err != nil {
				return err
			}
			_, err = tx.ExecContext(ctx, "UPDATE contract SET owner = ?, description = ?, protocols = ? WHERE api = ? AND version = ?",
				said.Owner, said.Text, protocolsOf(&compiled), k.api, k.version)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
