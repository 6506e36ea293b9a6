// Package adminapi serves the admin API on a loopback address and a socket file: it carries out the interface that is
// generated from api/fieldgate.openapi.yaml with the capabilities of the control plane.
package adminapi
