import { afterEach, describe, expect, it, vi } from "vitest";
import { address, call } from "./client";
import { ApiProblem } from "./problem";

describe("address", () => {
  it("fills and escapes path parameters, and leaves out empty query parameters", () => {
    expect(address("/api/v1/devices/{device}", { device: "a/b c" }, { limit: 10, cursor: undefined, filter: "" })).toBe(
      "/api/v1/devices/a%2Fb%20c?limit=10",
    );
  });
});

describe("call", () => {
  afterEach(() => vi.unstubAllGlobals());
  const answer = (response: Response | Error) => {
    const sent = vi.fn(async (_url: string, _init: RequestInit) => {
      if (response instanceof Error) throw response;
      return response;
    });
    vi.stubGlobal("fetch", sent);
    return sent;
  };

  it("gives the data with its ETag", async () => {
    answer(new Response('{"id":"d7"}', { headers: { "content-type": "application/json", etag: '"3"' } }));
    const got = await call("get", "/api/v1/devices/{device}", { path: { device: "d7" } });
    expect(got).toEqual({ data: { id: "d7" }, status: 200, etag: '"3"' });
  });

  it("sends preconditions and idempotency keys", async () => {
    const sent = answer(new Response(null, { status: 204 }));
    await call("post", "/api/v1/devices", { body: { id: "d7" }, ifMatch: '"3"', idempotencyKey: "k" });
    const headers = sent.mock.calls[0]![1].headers as Headers;
    expect(headers.get("if-match")).toBe('"3"');
    expect(headers.get("idempotency-key")).toBe("k");
    expect(headers.get("content-type")).toBe("application/json");
  });

  it("throws the problem that the node describes", async () => {
    const problem = { type: "urn:fieldgate:problem:conflict", title: "No", status: 409, detail: "There is one." };
    answer(new Response(JSON.stringify(problem), { status: 409, headers: { "content-type": "application/problem+json", "retry-after": "3" } }));
    const error = await call("get", "/api/v1/status").catch((e: unknown) => e);
    expect(error).toBeInstanceOf(ApiProblem);
    expect(error).toMatchObject({ code: "conflict", status: 409, retryAfter: 3 });
  });

  it.each([["no connection", new TypeError("failed")], ["a proxy's error page", new Response("<html>", { status: 502 })]])("says that the node does not answer: %s", async (_, response) => {
    answer(response);
    await expect(call("get", "/api/v1/status")).rejects.toMatchObject({ code: "unreachable" });
  });
});
