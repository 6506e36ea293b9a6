import type { SchemaProblem } from "./schema.gen";

/** What the admin API refuses (RFC 9457), or that it could not be reached (status 0). */
export class ApiProblem extends Error {
  readonly problem: SchemaProblem;
  readonly retryAfter: number | undefined; // seconds

  constructor(problem: SchemaProblem, retryAfter?: number) {
    super(problem.detail ? `${problem.title}: ${problem.detail}` : problem.title);
    this.name = "ApiProblem";
    this.problem = problem;
    this.retryAfter = retryAfter;
  }

  /** The last part of the problem's type, such as `conflict`. */
  get code(): string {
    return this.problem.type.slice(this.problem.type.lastIndexOf(":") + 1);
  }

  get status(): number {
    return this.problem.status;
  }
}

/** The API did not answer at all, or something between answered in its place. */
export function unreachable(): ApiProblem {
  return new ApiProblem({
    type: "urn:fieldgate:problem:unreachable",
    title: "The node does not answer",
    status: 0,
    detail: "It may be restarting, or the connection to it is lost. Nothing is known to have changed; it is tried again by itself.",
  });
}

/** Whatever was thrown, as a problem that can be shown. */
export function asProblem(error: unknown): ApiProblem {
  if (error instanceof ApiProblem) return error;
  return new ApiProblem({
    type: "urn:fieldgate:problem:console",
    title: "The console made a mistake",
    status: 0,
    detail: `${error instanceof Error ? error.message : String(error)}. Reload the page; if it happens again, report it.`,
  });
}
