import { RotateCw } from "lucide-react";
import type { ApiProblem } from "@/api/problem";
import { ToneIcon } from "./Badge";
import { Button } from "./Button";

/** A refusal or failure: what happened, what it means, what to do. */
export function ProblemNotice({ problem, onRetry }: { problem: ApiProblem; onRetry?: () => void }) {
  const { title, detail, findings } = problem.problem;
  return (
    <div role="alert" className="flex gap-2.5 rounded border border-line-strong bg-bad-tint px-3 py-2.5">
      <span className="mt-px">
        <ToneIcon tone="bad" />
      </span>
      <div className="flex min-w-0 flex-1 flex-col gap-1">
        <p className="font-semibold">{title}</p>
        {detail && <p className="text-soft">{detail}</p>}
        {problem.retryAfter !== undefined && <p className="text-soft">Try again in {problem.retryAfter} s.</p>}
        {findings && findings.length > 0 && (
          <ul className="mt-1 flex flex-col gap-2">
            {findings.map((finding, i) => (
              <li key={i} className="flex flex-col">
                {(finding.line || finding.pointer) && (
                  <code className="text-quiet">
                    {finding.file}
                    {finding.line && `:${finding.line}${finding.column ? `:${finding.column}` : ""}`} {finding.pointer}
                  </code>
                )}
                <span>{finding.message}</span>
                {finding.remedy && <span className="text-soft">{finding.remedy}</span>}
              </li>
            ))}
          </ul>
        )}
      </div>
      {onRetry && (
        <Button icon={RotateCw} onClick={onRetry} className="self-start">
          Try again
        </Button>
      )}
    </div>
  );
}
