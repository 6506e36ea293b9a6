// CoAP's listeners, credentials and refusals in words for operators.
import type { SchemaDtlsRefusals } from "@/api/schema.gen";

const transports: Record<string, string> = {
  coap: "UDP", "coap-on-ramp": "UDP, on-ramp", coaps: "DTLS", "coap-tcp": "TCP", "coaps-tcp": "TLS", "coap-ws": "WebSocket",
};

/** What carries the messages of a listener; a listener of a newer version by its name. */
export const transportOf = (listener: string) => transports[listener] ?? listener;

/** What a peer of a listener has, if it has something that ends. */
export const sessionNoun = (listener: string) => (listener === "coaps" ? "DTLS session" : "connection");

const credentials: Record<string, string> = { token: "token in its requests", psk: "pre-shared key", certificate: "certificate" };

/** How a peer has shown who it is. */
export const credentialWords = (credential: string | undefined) => (credential ? (credentials[credential] ?? credential) : "none shown");

const refusals: Record<SchemaDtlsRefusals["reason"], string> = {
  full: "too many handshakes at once",
  source: "too many handshakes of one address",
  unknown: "unknown identity",
  key: "wrong key, or client lost",
  certificate: "certificate",
  owner: "quarantined or revoked",
  timeout: "client did not go on",
  other: "no common cipher, or malformed",
};

/** Why DTLS handshakes were refused, the most frequent reason first: "3 wrong key, or client lost; 1 certificate". */
export const refusalText = (list: readonly SchemaDtlsRefusals[]) =>
  [...list].sort((a, b) => b.count - a.count).map(({ reason, count }) => `${count} ${refusals[reason] ?? reason}`).join("; ");
