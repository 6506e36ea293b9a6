import { describe, expect, it } from "vitest";
import { duration, linksOf } from "./links";

describe("links in link format", () => {
  it("are told apart by commas outside of quotes", () => {
    expect(linksOf('</t>;rt="a,b", </u>;title="x\\",y",</v>')).toEqual(['</t>;rt="a,b"', '</u>;title="x\\",y"', "</v>"]);
  });
  it("are none in an empty document", () => {
    expect(linksOf("")).toEqual([]);
  });
});

describe("a duration", () => {
  it("has two units at the most", () => {
    expect([20, 60, 3599, 3600, 5400, 90000, 86400].map(duration)).toEqual(["20 s", "1 min", "59 min", "1 h", "1 h 30 min", "1 d 1 h", "1 d"]);
  });
});
