package main

import (
	"encoding/pem"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"fieldgate/api"
)

func deviceCertificate(c *cli) *cobra.Command {
	var file, remove string
	command := &cobra.Command{
		Use:   "certificate DEVICE",
		Short: "Register a certificate by which a device shows who it is, or remove it",
		Long: `Register a certificate by which a device shows in TLS and DTLS handshakes who it is: of MQTT, HTTPS and CoAP. It may be of any
authority, or of the device's own making; what names stand in it does not matter. A device has at most four at once.

Devices whose certificates are of an authority that the setting device-authorities names need none registered.`,
		Example: `  fieldgate device certificate d7 --file d7.pem
  fieldgate device show d7
  fieldgate device certificate d7 --remove 5f70bf18a086007016e948b04aed3b82103a36bea41755b6cddfaf10ace3c6ef`,
		Args: arguments("DEVICE"),
		RunE: func(command *cobra.Command, args []string) error {
			if (file == "") == (remove == "") {
				return usagef("name the certificate by --file, or by --remove and its fingerprint, as \"fieldgate device show\" lists them")
			}
			admin, err := c.connect()
			if err != nil {
				return err
			}
			if remove != "" {
				answer, err := admin.RemoveDeviceCertificateWithResponse(command.Context(), args[0], plainFingerprint(remove), nil)
				if err != nil {
					return hinted(err, deviceListing)
				}
				return c.printDevice(command.OutOrStdout(), answer.JSON200, "")
			}
			certificate, err := readCertificate(file)
			if err != nil {
				return err
			}
			answer, err := admin.AddDeviceCertificateWithResponse(command.Context(), args[0], nil, api.NewCertificate{Certificate: certificate})
			if err != nil {
				return hinted(err, deviceListing)
			}
			return c.printDevice(command.OutOrStdout(), answer.JSON200, "")
		},
	}
	command.Flags().StringVar(&file, "file", "", "PEM file whose first certificate is the device's")
	command.Flags().StringVar(&remove, "remove", "", "SHA-256 fingerprint of the certificate to remove")
	return command
}

// plainFingerprint is a fingerprint as Fieldgate writes it, of one as OpenSSL does.
func plainFingerprint(text string) string {
	return strings.ToLower(strings.ReplaceAll(text, ":", ""))
}

const maxCertificateFile = 1 << 20

// readCertificate takes the first certificate of a PEM file; a key that is in it stays here.
func readCertificate(path string) (string, error) {
	file, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	text, err := io.ReadAll(io.LimitReader(file, maxCertificateFile))
	if err != nil {
		return "", err
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			return string(pem.EncodeToMemory(&pem.Block{Type: block.Type, Bytes: block.Bytes})), nil
		}
	}
	return "", fmt.Errorf("%s holds no certificate in PEM form", path)
}

// deviceCertificateRow is a line of a device's table.
func deviceCertificateRow(d *api.DeviceCertificate, now time.Time) []cell {
	text := cell{text: fmt.Sprintf("%s, %s, until %s", d.Fingerprint, dash(printable(d.Subject)), shortTime(d.NotAfter))}
	if now.After(d.NotAfter) {
		text.text, text.colour = text.text+" (expired)", red
	}
	return []cell{{text: "certificate"}, text}
}
