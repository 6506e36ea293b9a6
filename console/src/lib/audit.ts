// Decisions of the audit log in words, and what each changed as small differences.
export interface AuditChange {
  field: string;
  /** undefined where the field was not there. */
  before: string | undefined;
  /** undefined where the field is gone. */
  after: string | undefined;
}

/** The fields that a decision changed, shortest differences as they are, lists by what came and went. */
export function auditChanges(before: Record<string, unknown> | undefined, after: Record<string, unknown> | undefined): AuditChange[] {
  const [was, is] = [before ?? {}, after ?? {}];
  return [...new Set([...Object.keys(was), ...Object.keys(is)])].flatMap((field) => {
    const a = was[field];
    const b = is[field];
    if (Array.isArray(a) && Array.isArray(b)) {
      const gone = a.filter((v) => !b.includes(v)).map(shown);
      const came = b.filter((v) => !a.includes(v)).map(shown);
      return gone.length + came.length === 0 ? [] : [{ field, before: gone.length > 0 ? gone.join(", ") : undefined, after: came.length > 0 ? came.join(", ") : undefined }];
    }
    const change = { field, before: shown(a), after: shown(b) };
    return change.before === change.after ? [] : [change];
  });
}

function shown(value: unknown): string | undefined {
  if (value === undefined || value === null || value === "") return undefined;
  if (Array.isArray(value)) return value.length === 0 ? undefined : value.map(shown).join(", ");
  if (typeof value === "object") return JSON.stringify(value);
  return shortDigests(String(value));
}

const past: Record<string, string> = {
  add: "added", claim: "claimed", change: "changed", deprecate: "deprecated", disable: "disabled", enable: "enabled", end: "ended", import: "imported",
  invite: "invited", password: "set the password of", publish: "published", quarantine: "quarantined", refuse: "refused", release: "released",
  remove: "removed", restore: "restored", retire: "retired", revoke: "revoked", start: "started", supersede: "superseded", update: "changed", view: "looked at",
  "issue-token": "issued a token of", "issue-key": "issued a key of", token: "issued a token of", key: "issued a key of",
};

/** Decisions about a part of what they name. */
const pastOfParts: Record<string, string> = {
  "device.request": "asked the device", "device.command": "queued a command for", "device.command-cancel": "cancelled a command for",
  "coap-session.end": "ended the CoAP session of", "coap-observation.end": "ended a CoAP observation of",
  "mqtt-session.disconnect": "disconnected the client", "mqtt-session.end": "ended the session of", "retained.look": "looked at the retained message of",
  "retained.delete": "deleted the retained message of", "messages.watch": "watched the messages of",
  "device.psk": "changed the pre-shared key of", "device.oscore": "changed the OSCORE context of", "device.certificate": "changed the certificates of",
  "target.register": "registered an address of", "target.update": "changed an address of", "target.remove": "removed an address of", "target.expire": "gave up an address of",
};

/** What somebody did: `device.quarantine` as "quarantined"; an action of a newer version as it is. */
export function decisionVerb(action: string): string {
  const verb = action.slice(action.indexOf(".") + 1);
  return pastOfParts[action] ?? past[verb] ?? verb.replaceAll("-", " ");
}

/** A detail with long digests cut to what tells two apart. */
export const shortDigests = (text: string) => text.replace(/\b([0-9a-f]{12})[0-9a-f]{52}\b/g, "$1…");

const pagesOfNouns: Record<string, string> = { api: "/apis", device: "/devices", app: "/apps", target: "/upstreams" };

/** The page of what was decided about; undefined where it has none. */
export function targetPath(action: string, target: string): string | undefined {
  const page = pagesOfNouns[action.slice(0, action.indexOf("."))];
  const [name] = target.split(" "); // an API's target is its name and version
  return page && name ? `${page}/${encodeURIComponent(name)}` : undefined;
}
