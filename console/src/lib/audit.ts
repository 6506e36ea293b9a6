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
  const text = String(value);
  return /^[0-9a-f]{64}$/.test(text) ? `${text.slice(0, 12)}…` : text; // a digest: its beginning tells two apart
}

/** `device.quarantine` as "quarantine", `app.issue-key` as "issue key". */
export function decisionVerb(action: string): string {
  return action.slice(action.indexOf(".") + 1).replaceAll("-", " ");
}

const pagesOfNouns: Record<string, string> = { api: "/apis", device: "/devices", app: "/apps" };

/** The page of what was decided about; undefined where it has none. */
export function targetPath(action: string, target: string): string | undefined {
  const page = pagesOfNouns[action.slice(0, action.indexOf("."))];
  const [name] = target.split(" "); // an API's target is its name and version
  return page && name ? `${page}/${encodeURIComponent(name)}` : undefined;
}
