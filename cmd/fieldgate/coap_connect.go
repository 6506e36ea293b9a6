package main

import (
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/protocol/coap"
)

// optionCredential is the option in which gateways expect a token.
const optionCredential coap.OptionNumber = 65002

// coapFlags say how requests are sent.
type coapFlags struct {
	environment func() string // path of the environment file
	tokenFile   string
	security    coapSecurity
	non         bool
	blockSize   int
	accept      contentFormat
	options     []string
	timeout     time.Duration
}

func (f *coapFlags) add(c *cli, command *cobra.Command) {
	f.environment = c.environmentPath
	flags := command.Flags()
	flags.StringVar(&f.tokenFile, "token-file", "", "file with the token of the device or app (default $"+tokenVariable+", else none is sent)")
	f.security.add(flags)
	flags.BoolVarP(&f.non, "non", "n", false, "send Non-confirmable messages, which nobody acknowledges or repeats")
	flags.IntVarP(&f.blockSize, "block-size", "b", 0, "bytes of a block: 16, 32, 64, 128, 256, 512 or 1024 (default 1024, or what the other side wants)")
	flags.VarP(&f.accept, "accept", "A", "what the answer is to be: "+contentFormatUsage)
	flags.StringArrayVarP(&f.options, "option", "O", nil, "a further option NUMBER=VALUE of text, or NUMBER=0xBYTES; may be given several times")
	flags.DurationVar(&f.timeout, "timeout", answerTimeout, "the longest silence")
}

// prepare gives a request what the flags say.
func (f *coapFlags) prepare(call *coap.Call) error {
	call.NonConfirmable = f.non
	if f.blockSize != 0 && (f.blockSize < 16 || f.blockSize > 1024 || f.blockSize&(f.blockSize-1) != 0) {
		return usagef("--block-size is 16, 32, 64, 128, 256, 512 or 1024")
	}
	call.BlockSize = f.blockSize
	if f.timeout <= 0 {
		return usagef("--timeout is a time such as 15s")
	}
	if f.accept.set {
		call.Options.AddUint(coap.Accept, f.accept.number)
	}
	for _, text := range f.options {
		number, value, ok := strings.Cut(text, "=")
		n, err := strconv.ParseUint(number, 10, 16)
		if !ok || err != nil || n == 0 {
			return usagef("--option is NUMBER=VALUE, with a number from 1 to 65535, not %q", text)
		}
		bytes := []byte(value)
		if digits, hexadecimal := strings.CutPrefix(value, "0x"); hexadecimal {
			if bytes, err = hexBytes(digits); err != nil {
				return usagef("--option %s: what follows 0x are hexadecimal digits, two for each byte", text)
			}
		}
		call.Options.Add(coap.OptionNumber(n), bytes)
	}
	token, _, err := callerToken(f.tokenFile)
	if err == nil && token != "" {
		call.Options.AddString(optionCredential, token)
	}
	return err
}
