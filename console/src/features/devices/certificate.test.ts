import { expect, test } from "vitest";
import { firstCertificate } from "./certificate";

const pem = (what: string, content: string) => `-----BEGIN ${what}-----\n${content}\n-----END ${what}-----\n`;

test("the first certificate is taken, and no key", () => {
  const own = pem("CERTIFICATE", "MIIB+/8=");
  expect(firstCertificate(`Bag Attributes\n${pem("PRIVATE KEY", "c2VjcmV0")}${own}${pem("CERTIFICATE", "chain")}`)).toBe(own.trim());
});

test("without a certificate there is nothing to send", () => {
  for (const text of ["", "pump", pem("PRIVATE KEY", "c2VjcmV0"), "-----BEGIN CERTIFICATE-----\nMIIB"]) expect(firstCertificate(text)).toBeUndefined();
});
