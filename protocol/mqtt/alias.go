package mqtt

import (
	"bytes"
	"hash/maphash"
)

// aliases holds the topic aliases of a connection (§3.3.2.3.4), each direction from the first alias on.
type aliases struct {
	in  TopicAliases // the client's
	out []outAlias   // ours, by alias-1; a topic's place follows from its hash
}

type outAlias struct {
	topic    []byte // what the client knows the alias to stand for, nil: nothing yet
	hash     uint64 // of that topic
	newcomer uint64 // hash of the last other topic here: when it comes again it takes the alias
}

// Topics for which an alias is worth its three bytes, and whose length is no burden to remember.
const (
	minAliased = 8
	maxAliased = 1 << 10
)

var aliasSeed = maphash.MakeSeed()

// TopicAliases are the topics that the aliases of one sender stand for on a connection, by alias-1. The zero value is ready.
type TopicAliases [][]byte

// Resolve replaces a topic alias by its topic, so that nobody behind sees one, and says whether there was one. most is the highest that
// the sender may use.
func (a *TopicAliases) Resolve(p *Publish, most uint16) (aliased bool, err error) {
	if !p.Properties.Has(TopicAlias) {
		return false, nil
	}
	alias := int(p.Properties.Number(TopicAlias))
	p.Properties.Delete(TopicAlias)
	if alias > int(most) {
		return true, ErrTopicAlias
	}
	if *a == nil {
		*a = make(TopicAliases, most)
	}
	slot := &(*a)[alias-1]
	if len(p.Topic) > 0 {
		*slot = append((*slot)[:0], p.Topic...)
	} else if len(*slot) == 0 {
		return true, ErrTopicAliasUnknown
	}
	p.Topic = *slot
	return true, nil
}

func (c *Conn) resolveAlias(p *Publish) error {
	if !p.Properties.Has(TopicAlias) {
		return nil
	}
	_, err := c.more().aliases.in.Resolve(p, c.limits.TopicAliasMaximum)
	return err
}

// outAlias gives the alias under which a topic goes to the client, 0 if under none. known: the client knows it, the topic
// stays away; otherwise aliasSent must be called once the PUBLISH that tells it is on its way. A topic gets an alias when
// it comes a second time: one that never comes again would cost bytes and save none.
func (c *Conn) outAlias(topic []byte) (alias uint16, known bool) {
	if c.aliasMaximum == 0 || len(topic) < minAliased || len(topic) > maxAliased {
		return 0, false
	}
	aliases := &c.more().aliases
	if aliases.out == nil {
		aliases.out = make([]outAlias, c.aliasMaximum)
	}
	hash := maphash.Bytes(aliasSeed, topic)
	place := hash % uint64(len(aliases.out))
	slot := &aliases.out[place]
	switch {
	case slot.hash == hash && bytes.Equal(slot.topic, topic):
		slot.newcomer = 0 // the one that is used keeps its alias against two that take turns
		return uint16(place + 1), true
	case slot.newcomer == hash:
		return uint16(place + 1), false
	}
	slot.newcomer = hash
	return 0, false
}

// aliasSent notes that the client will know the alias.
func (c *Conn) aliasSent(alias uint16, topic []byte) {
	slot := &c.seldom.aliases.out[alias-1]
	*slot = outAlias{topic: append(slot.topic[:0], topic...), hash: slot.newcomer}
}
