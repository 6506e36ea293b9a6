// Roles and scopes in words.
import type { SchemaOperator, SchemaRole, SchemaScope } from "@/api/schema.gen";

export const roles: readonly { role: SchemaRole; may: string }[] = [
  { role: "auditor", may: "sees everything, and the audit log" },
  { role: "developer", may: "publishes contracts and admits apps" },
  { role: "operator", may: "does that, decides about devices, and sees the audit log" },
  { role: "owner", may: "does everything, and decides about operators" },
];

export const scopes: readonly { scope: SchemaScope; may: string }[] = [
  { scope: "read", may: "see everything but the audit log" },
  { scope: "audit.read", may: "see the audit log" },
  { scope: "apis.write", may: "publish, deprecate and retire contracts" },
  { scope: "apps.write", may: "add apps and issue their keys" },
  { scope: "devices.write", may: "add, quarantine and revoke devices, capture payloads" },
  { scope: "targets.write", may: "register addresses of services, and take them out" },
  { scope: "access.write", may: "decide about operators" },
];

/** Whether nobody else could decide about operators without this one. */
export function isLastOwner(operator: SchemaOperator, all: readonly SchemaOperator[]): boolean {
  const active = (o: SchemaOperator) => o.role === "owner" && o.state === "active";
  return active(operator) && !all.some((o) => o.name !== operator.name && active(o));
}

/** Why a name is refused, before it is sent. */
export function checkOperatorName(name: string): string | undefined {
  if (name === "") return "A name is needed.";
  if (name.length > 64) return "At most 64 characters.";
  return /^[a-z0-9][a-z0-9._-]*$/.test(name) ? undefined : "Small letters, digits, dots, hyphens and underscores; it begins with a letter or digit.";
}

/** The link of an invitation: the token travels in the fragment, which no server and no log sees. */
export const invitationLink = (origin: string, token: string) => `${origin}/#token=${token}`;
