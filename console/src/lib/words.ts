// What problem codes, findings and stages mean, in words for operators: what happened, and what to do about it.
import type { SchemaFindingName, SchemaStageTime } from "@/api/schema.gen";

export type Outcome = "passed" | "denied" | "failed";

/** Status numbers are HTTP's, whatever the protocol. */
export function outcomeOf(status: number): Outcome {
  return status < 400 ? "passed" : status < 500 ? "denied" : "failed";
}

export interface Words {
  title: string;
  remedy: string;
}

const problems: Record<string, Words> = {
  "bad-request": { title: "The request is malformed", remedy: "The caller breaks its own protocol: look at its client library." },
  unauthenticated: { title: "No valid credential", remedy: "Give the caller a token: it sent none, or one that was replaced or revoked." },
  forbidden: { title: "Not allowed", remedy: "Give the caller the scope that the operation asks for, or leave it refused." },
  "not-owner": { title: "Another device's resource", remedy: "The caller names another device's id in its path or topic. Look at its firmware; it may also be an attack." },
  "qos-not-allowed": { title: "Quality of service not allowed", remedy: "The caller publishes with a higher QoS than the contract has for the topic: lower it there, or raise the contract's." },
  "retain-not-allowed": { title: "Retained messages not allowed", remedy: "The caller sets RETAIN on a topic whose contract does not say retain: true." },
  quarantined: { title: "The device is in quarantine", remedy: "Release it once you know why it was cut off." },
  "not-found": { title: "No contract has such an operation", remedy: "Publish a contract that has it, or find out why it is called." },
  "method-not-allowed": { title: "The path has other methods", remedy: "The caller uses a method that the contract does not have for this path." },
  "not-acceptable": { title: "No acceptable representation", remedy: "The caller accepts only content types that the operation does not give." },
  gone: { title: "The version is retired", remedy: "Update the caller to a newer version of the API, or restore the retired one." },
  "too-large": { title: "The payload is too large", remedy: "The contract bounds the body. Raise its limit, or have the caller send less." },
  "unsupported-media-type": { title: "Unsupported media type", remedy: "The caller sends a content type that the contract does not name." },
  "invalid-parameter": { title: "A parameter breaks the contract", remedy: "Correct the caller, or the contract if the value is meant to be allowed." },
  "invalid-payload": { title: "The payload breaks the contract", remedy: "Correct the caller, or the contract if the value is meant to be allowed." },
  "rate-limited": { title: "Too many requests", remedy: "The caller is faster than the contract's rate. Raise the rate, or slow the caller down." },
  overloaded: { title: "The gateway is overloaded", remedy: "It sheds load to stay up. Add a gateway, or find out who floods it." },
  internal: { title: "Internal error", remedy: "The gateway's log says more." },
  "upstream-unreachable": { title: "The service behind the API cannot be reached", remedy: "Start it, or correct its address in the environment file." },
  "upstream-invalid": { title: "The service gave an invalid answer", remedy: "It broke HTTP or the contract: look at the service." },
  "upstream-timeout": { title: "The service did not answer in time", remedy: "Find out why it is slow, or raise the timeout in the contract." },
  "caller-left": { title: "The caller left", remedy: "It did not wait for the answer: it gave up, was switched off, or lost its network." },
  "not-durable": { title: "The message could not be stored", remedy: "It was not acknowledged. Look at the gateway's disk." },
};

/** A problem code in words; a code of a newer version as it is. */
export function problemWords(code: string): Words {
  return problems[code] ?? { title: code, remedy: "" };
}

const findings: Record<SchemaFindingName, Words> = {
  undocumented: { title: "No contract explains it", remedy: "A pass-through API let it through. Draft a contract from this traffic, then retire the pass-through." },
  unmatched: { title: "Nothing answers to it", remedy: "It was refused: neither a contract nor a pass-through API knows it. Draft a contract, or find out why it is called." },
  "invalid-request": { title: "The request breaks the contract", remedy: "Correct the caller, or the contract if this is meant to be allowed." },
  "invalid-response": { title: "The answer breaks the contract", remedy: "Correct the service, or the contract: callers rely on it." },
  shadowed: { title: "Invalid, but let through", remedy: "The contract says on-invalid: shadow. Set it to reject once callers are correct." },
  unauthenticated: { title: "No valid credential", remedy: "Give the caller a token, or leave it refused." },
  forbidden: { title: "Identified, but may not", remedy: "Give the caller the scope that the operation asks for, or leave it refused." },
  "not-owner": { title: "Another device's resource", remedy: "Look at the caller's firmware; if it is correct, this is an attack: quarantine the device." },
  quarantined: { title: "The device is in quarantine", remedy: "Release it once you know why it was cut off." },
  revoked: { title: "The credential is revoked", remedy: "Nothing to do: it was shut out for good, and still tries." },
  "rate-limited": { title: "Faster than the contract's rate", remedy: "Raise the rate, or slow the caller down." },
  deprecated: { title: "Served by a deprecated version", remedy: "Update the caller before the version's end." },
  retired: { title: "Asked of a retired version", remedy: "Update the caller, or restore the version." },
  upstream: { title: "The service behind the API failed", remedy: "Look at the service; the gateway did its part." },
  malformed: { title: "It broke its own protocol", remedy: "Look at the caller's client library; many of these from one place are an attack." },
  dropped: { title: "Not delivered to some subscriber", remedy: "A subscriber was too slow and its queue was full. Look at who subscribes." },
};

export function findingWords(name: SchemaFindingName): Words {
  return findings[name] ?? { title: name, remedy: "" };
}

export type StageName = SchemaStageTime["stage"];

const stages: Record<StageName, string> = {
  match: "Which operation of which version is it?",
  identify: "Whose credential is it?",
  admit: "May it, now?",
  limit: "Not more often than the contract allows?",
  check: "Are parameters and payload what the contract says?",
  shield: "Is it an attack?",
  forward: "To the service, the topic or the mock",
  project: "What may the receiver see?",
  record: "Written down",
};

/** What a stage of the pipeline asks. */
export const stageQuestion = (stage: StageName): string => stages[stage];
