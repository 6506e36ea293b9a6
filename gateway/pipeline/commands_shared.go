package pipeline

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"fieldgate"
	"fieldgate/engine/bus"
)

const (
	claimPatience  = 2 * time.Second // for the bus to take a key
	settlePatience = time.Second     // for the bus to take an answer, before its caller gets it
	repairFor      = time.Minute     // that the bus is asked again to take what it did not
	repairPause    = time.Second
	maxRepairs     = 256              // at once; without, others are told that the outcome is not known
	claimTries     = 3                // when others change the key meanwhile
	commandMargin  = 10 * time.Second // after a command's deadline its gateway is taken for gone
	freeFor        = time.Minute      // that a key is known to be free again; then nothing is known of it, which is the same
	maxSharedBytes = 256 << 10        // of an answer
)

// commandState is what gateways tell each other of a command: a line of JSON, and after it the content of the answer. Of the key they
// have the hash only.
type commandState struct {
	Attempt uint64             `json:"attempt"`         // tells one from another of the same key
	Asked   []byte             `json:"asked"`           // fingerprint
	Lasts   time.Duration      `json:"lasts,omitempty"` // under way, for so long at the most
	Free    bool               `json:"free,omitempty"`  // it was not carried out, or failed: it may be tried again
	Lost    bool               `json:"lost,omitempty"`  // carried out; the answer was too large
	Answer  Answer             `json:"answer,omitzero"`
	Problem *fieldgate.Problem `json:"problem,omitempty"` // instead of the answer

	age time.Duration
}

func (s *commandState) encode() []byte {
	head := *s
	head.Answer.Body = nil
	if s.Problem != nil { // of which callers see no cause
		problem := *s.Problem
		problem.Cause, head.Problem = nil, &problem
	}
	line, err := json.Marshal(&head)
	if err != nil {
		panic(err) // it has nothing that JSON has not
	}
	return append(append(line, '\n'), s.Answer.Body...)
}

func decodeCommand(data []byte) (*commandState, error) {
	line, body, _ := bytes.Cut(data, []byte{'\n'})
	s := new(commandState)
	if err := json.Unmarshal(line, s); err != nil {
		return nil, fmt.Errorf("the state of a command: %w", err)
	}
	s.Answer.Body = body
	return s, nil
}

func (c *command) subject() string { return fieldgate.SubjectCommands + hex.EncodeToString(c.key[:]) }

// claim makes sure that no gateway but this one carries the exchange's command out, now or for as long as its key counts. What it came to
// elsewhere is the answer. Where the contract demands keys and the bus does not keep this one, the command is not carried out: nobody could
// tell it from the next of its kind.
func (p *Pipeline) claim(ctx context.Context, x *Exchange) *fieldgate.Problem {
	c, policy := x.command, x.Operation.policies.Idempotency
	ctx, cancel := context.WithTimeout(ctx, claimPatience)
	defer cancel()
	mine := commandState{Attempt: rand.Uint64(), Asked: c.fingerprint[:], Lasts: p.lasts(x) + commandMargin}
	held, err := p.claimShared(ctx, c, &mine, max(policy.TTL, mine.Lasts))
	switch {
	case err != nil && !policy.Required:
		return nil // this gateway's memory has to do
	case err == nil && held == nil:
		return nil
	}
	p.commands.abandon(c)
	x.command = nil
	switch {
	case errors.Is(err, bus.ErrFull):
		return x.by("idempotency key", errTooManyKeys)
	case err != nil:
		problem := *errKeyNotKept
		problem.Cause = err
		return x.by("idempotency key", &problem)
	case !bytes.Equal(held.Asked, c.fingerprint[:]):
		return x.by("idempotency key", errKeyReused)
	case held.Lasts > 0 && held.age < held.Lasts:
		return x.by("idempotency key", errKeyRunning)
	case held.Lasts > 0:
		return x.by("idempotency key", errKeyUnknown)
	case held.Lost:
		return x.by("idempotency key", errAnswerLost)
	}
	return x.replay(held.Answer, held.Problem)
}

// lasts is how long the exchange may be under way, once it is forwarded.
func (p *Pipeline) lasts(x *Exchange) time.Duration {
	if x.Operation.Timeout > 0 {
		return x.Operation.Timeout
	}
	if service := p.Service(x); service != nil {
		return service.Config.Timeout
	}
	return 0
}

// claimShared begins a command in the stream, unless it is there: then it is held.
func (p *Pipeline) claimShared(ctx context.Context, c *command, mine *commandState, ttl time.Duration) (held *commandState, err error) {
	data := mine.encode()
	for after, try := uint64(0), 0; try < claimTries; try++ {
		c.shared, err = p.bus.Put(ctx, c.subject(), data, after, ttl)
		switch {
		case err == nil:
			return nil, nil
		case !errors.Is(err, bus.ErrChanged):
			if !errors.Is(err, bus.ErrUnavailable) && !errors.Is(err, bus.ErrFull) && !errors.Is(err, bus.ErrRefused) {
				p.repair(func(ctx context.Context) bool { return p.giveBack(ctx, c, mine) })
			}
			return nil, err
		}
		value, err := p.bus.Latest(ctx, fieldgate.StreamCommands, c.subject())
		switch {
		case errors.Is(err, bus.ErrNone): // its time was over just now
			after = 0
			continue
		case err != nil:
			return nil, err
		}
		if held, err = decodeCommand(value.Data); err != nil {
			return nil, err
		}
		if held.age = value.Age; !held.Free {
			return held, nil
		}
		after = value.Sequence
	}
	return nil, err
}

// giveBack frees a key of which nobody knows whether the stream has it: nothing was carried out. It says whether that is done.
func (p *Pipeline) giveBack(ctx context.Context, c *command, mine *commandState) bool {
	value, err := p.bus.Latest(ctx, fieldgate.StreamCommands, c.subject())
	if err != nil {
		return errors.Is(err, bus.ErrNone)
	}
	if held, err := decodeCommand(value.Data); err != nil || held.Attempt != mine.Attempt {
		return true
	}
	free := commandState{Attempt: mine.Attempt, Asked: mine.Asked, Free: true}
	_, err = p.bus.Put(ctx, c.subject(), free.encode(), value.Sequence, freeFor)
	return err == nil || errors.Is(err, bus.ErrChanged)
}

// settle tells the other gateways what came of a command, before its caller hears of it.
func (p *Pipeline) settle(c *command, state commandState, ttl time.Duration) {
	if state.Answer.size() > maxSharedBytes {
		state.Lost, state.Answer = true, Answer{}
	}
	data, after := state.encode(), c.shared
	ctx, cancel := context.WithTimeout(context.Background(), settlePatience)
	defer cancel()
	sequence, err := p.bus.Put(ctx, c.subject(), data, after, ttl)
	if c.shared = sequence; err == nil || errors.Is(err, bus.ErrChanged) {
		return
	}
	p.repair(func(ctx context.Context) bool {
		_, err := p.bus.Put(ctx, c.subject(), data, after, ttl)
		return err == nil || errors.Is(err, bus.ErrChanged) // the first one came through after all
	})
}

// repair tries something again in the background until it is done.
func (p *Pipeline) repair(try func(context.Context) bool) {
	select {
	case p.repairs <- struct{}{}:
	default:
		return
	}
	go func() {
		defer func() { <-p.repairs }()
		ctx, cancel := context.WithTimeout(context.Background(), repairFor)
		defer cancel()
		for {
			select {
			case <-ctx.Done():
				return
			case <-time.After(repairPause):
			}
			attempt, cancel := context.WithTimeout(ctx, settlePatience)
			done := try(attempt)
			cancel()
			if done {
				return
			}
		}
	}()
}

// freeForgotten frees keys that this gateway has forgotten before their time, so that a caller's share holds in the stream too.
func (p *Pipeline) freeForgotten() {
	for _, c := range p.commands.takeForgotten() {
		if c.until.After(time.Now()) {
			free := commandState{Asked: c.fingerprint[:], Free: true}
			p.bus.PutSoon(c.subject(), free.encode(), c.shared, time.Second) // what is not freed ends in its time
		}
	}
}
