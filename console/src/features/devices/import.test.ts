import { expect, it } from "vitest";
import { emptyImport, Lines, mostRefusedShown, preview, take, type ImportState } from "./import";

const fresh = (): ImportState => ({ ...emptyImport, tokens: [] });

it("cuts lines wherever the network cuts the text", () => {
  const whole = '{"line":1,"id":"d1","token":"t1"}\n{"done":true}\n';
  for (let cut = 0; cut <= whole.length; cut++) {
    const lines = new Lines();
    expect([...lines.add(whole.slice(0, cut)), ...lines.add(whole.slice(cut)), ...lines.end()]).toEqual(whole.trim().split("\n"));
  }
});

it("gives a last line without an end, and no empty ones", () => {
  const lines = new Lines();
  expect([lines.add("a\n\n  \nb"), lines.end(), lines.end()]).toEqual([["a"], ["b"], []]);
});

it("collects tokens, refusals and the summary", () => {
  let state = fresh();
  const problem = { type: "urn:fieldgate:problem:conflict", title: "No", status: 409, detail: 'There is a device "d2" already.' };
  for (const line of [{ checked: 2 }, { line: 1, id: "d1", token: "fgd_1" }, { line: 2, id: "d2", problem }]) state = take(state, line);
  expect(state).toMatchObject({ checked: 2, added: 1, refusedCount: 1, refused: [{ line: 2, id: "d2", why: 'There is a device "d2" already.' }] });
  expect(state.tokens).toEqual(['{"id":"d1","token":"fgd_1"}\n']);
  expect(state.summary).toBeUndefined();
  expect(take(state, { done: true, applied: true, lines: 2, added: 1, refused: 1 }).summary).toEqual({ applied: true, lines: 2, added: 1, refused: 1 });
});

it("counts all refused lines and shows a bounded number", () => {
  let state = fresh();
  for (let line = 1; line <= mostRefusedShown + 10; line++) state = take(state, { line, problem: { type: "x", title: "No", status: 400 } });
  expect([state.refusedCount, state.refused.length, state.refused[0]!.why]).toEqual([mostRefusedShown + 10, mostRefusedShown, "No"]);
});

it.each([
  ['{"id":"a"}\n\n{"id":"b","model":"T2"}\n', 2, []],
  ['{"id":"a"}\nid,model\n', 2, [{ line: 2, why: "is no JSON" }]],
  ['[1]\n{"model":"T2"}', 2, [{ line: 1, why: "is no JSON object" }, { line: 2, why: "has no id" }]],
  ["", 0, []],
])("previews %j", (text, devices, wrong) => {
  expect(preview(text)).toEqual({ devices, wrong });
});
