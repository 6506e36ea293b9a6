package mqttexchange

import (
	"crypto/rand"
	"errors"

	"github.com/xdg-go/scram"

	"fieldgate"
	"fieldgate/gateway/directory"
	"fieldgate/gateway/pipeline"
)

// ScramMethod is the authentication method that is served (RFC 7677).
const ScramMethod = "SCRAM-SHA-256"

// Scram is an enhanced authentication under way (MQTT 5 §4.12): a client proves that it knows a token of the id that it
// names, without sending it, and the gateway that it knows the token's verifier. The zero value has heard nothing.
//
// Which of its tokens a client has is known at the end only. Their salt is the same, so that the conversation is held for each
// of them with the same words, up to the one that the proof fits.
type Scram struct {
	username      string
	tokens        []directory.Token
	conversations []*scram.ServerConversation // one for each token; none before the client's first message
}

// ErrNoVerifier says that nobody can prove to be of that name by this method.
var ErrNoVerifier = errors.New("no token of that id has a verifier")

// ErrScram is what a client is told whose proof is none.
var ErrScram = fieldgate.NewProblem(fieldgate.ProblemUnauthenticated, "The proof does not fit a credential of that name.")

// Began says whether the client's first message was heard.
func (e *Scram) Began() bool { return e.conversations != nil }

// First reads the client's first message and gives the server's. A name that nobody has is answered like any other.
func (e *Scram) First(known *directory.Directory, message string) (answer string, err error) {
	nonce := rand.Text()
	lookup := func(name string) (scram.StoredCredentials, error) {
		e.username = name
		tokens := known.Tokens(name)
		for _, token := range tokens {
			if token.Verifier != (fieldgate.ScramVerifier{}) {
				e.tokens = append(e.tokens, token)
			}
		}
		if len(e.tokens) == 0 {
			if len(tokens) > 0 {
				return scram.StoredCredentials{}, ErrNoVerifier
			}
			decoy := directory.Token{}
			rand.Read(decoy.Verifier[:])
			e.tokens = []directory.Token{decoy}
		}
		return e.credentials(0), nil
	}
	if answer, err = e.converse(lookup, nonce, message); err != nil {
		return "", err
	}
	for i := 1; i < len(e.tokens); i++ {
		if _, err := e.converse(func(string) (scram.StoredCredentials, error) { return e.credentials(i), nil }, nonce, message); err != nil {
			return "", err
		}
	}
	if authorize := e.conversations[0].AuthzID(); authorize != "" && authorize != e.username {
		return "", errors.New("nobody acts for another")
	}
	return answer, nil
}

func (e *Scram) converse(lookup scram.CredentialLookup, nonce, message string) (answer string, err error) {
	server, err := scram.SHA256.NewServer(lookup)
	if err != nil {
		return "", err
	}
	conversation := server.WithNonceGenerator(func() string { return nonce }).NewConversation()
	e.conversations = append(e.conversations, conversation)
	return conversation.Step(message)
}

func (e *Scram) credentials(i int) scram.StoredCredentials {
	v := &e.tokens[i].Verifier
	return scram.StoredCredentials{StoredKey: v.StoredKey(), ServerKey: v.ServerKey(),
		KeyFactors: scram.KeyFactors{Salt: string(fieldgate.ScramSalt(e.username)), Iters: fieldgate.ScramIterations}}
}

// Final reads the client's proof and gives who it is and the server's own proof; nil: the proof fits no token.
func (e *Scram) Final(p *pipeline.Pipeline, message string) (caller *pipeline.Caller, proof string) {
	for i, conversation := range e.conversations {
		answer, err := conversation.Step(message)
		if err == nil && conversation.Valid() && e.tokens[i].Owner != 0 {
			owner := p.Directory.Principal(e.tokens[i].Owner)
			return &pipeline.Caller{Ref: e.tokens[i].Owner, Hash: e.tokens[i].Hash, Kind: owner.Kind, ID: owner.ID}, answer
		}
	}
	return nil, ""
}
