import { expect, test } from "vitest";
import { credentialWords, refusalText, sessionNoun, transportOf } from "./coap";

test.each([
  ["coap", "UDP"],
  ["coaps", "DTLS"],
  ["coaps-tcp", "TLS"],
  ["coap-quic", "coap-quic"],
])("%s is carried by %s", (listener, transport) => expect(transportOf(listener)).toBe(transport));

test("what ends is named as it is", () => {
  expect(sessionNoun("coaps")).toBe("DTLS session");
  expect(sessionNoun("coap-ws")).toBe("connection");
});

test.each([
  [undefined, "none shown"],
  ["psk", "pre-shared key"],
  ["retina", "retina"],
])("the credential %j reads %s", (credential, words) => expect(credentialWords(credential)).toBe(words));

test("refusals are told, the most frequent first", () => {
  expect(refusalText([])).toBe("");
  expect(refusalText([{ reason: "certificate", count: 1 }, { reason: "key", count: 3 }])).toBe("3 wrong key, or client lost; 1 certificate");
});
